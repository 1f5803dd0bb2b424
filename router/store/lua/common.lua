-- The arithmetic of core/quota.py, line by line; a property test holds the two together. Put in front of each script.
-- All numbers are integers below 2^53. Times are microseconds of this server's clock.
-- KEYS[1] hash: at, r, t (deficits), m (month), b (spent micro-USD), n (since when there is this hash), and what was put
-- back into it: pr, pt (when it would be whole), pb   KEYS[2] sorted set: slot -> expiry
-- ARGV[1] now, or '' for TIME   [2] lease   [3..6] requests/min, tokens/min, concurrent, budget; -1: no limit
-- [7] where the caller last saw the account, as 'at r t b', or ''

local MINUTE_US = 60000000
local DAY_US = 86400000000
local UNITS_MAX = 100000000
local CONCURRENT_WAIT_US = 1000000
local STEP_BACK_US = MINUTE_US
local NEVER_US = 9007199254740992

local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max

local function int(x)
  return string.format('%.0f', x)
end

local function server_us()
  if ARGV[1] ~= '' then
    return tonumber(ARGV[1])
  end
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function charge_us(units, per_minute)
  if units <= 0 then
    return 0
  end
  return ceil(min(units, UNITS_MAX) * MINUTE_US / per_minute)
end

local function refund_us(units, per_minute)
  return floor(min(units, UNITS_MAX) * MINUTE_US / per_minute)
end

local function available(deficit_us, per_minute)
  return floor(max(0, floor((MINUTE_US - deficit_us) / 1000)) * per_minute / 60000)
end

local function month_of(now_us)
  local shifted = floor(now_us / DAY_US) + 719468
  local era = floor(shifted / 146097)
  local day = shifted - era * 146097
  local year = floor((day - floor(day / 1460) + floor(day / 36524) - floor(day / 146096)) / 365)
  local day_of_year = day - (365 * year + floor(year / 4) - floor(year / 100))
  local march_based = floor((5 * day_of_year + 2) / 153)
  local month = march_based < 10 and march_based + 3 or march_based - 9
  if month <= 2 then
    year = year + 1
  end
  return (era * 400 + year) * 12 + month - 1
end

local function month_end_us(month)
  local year = floor((month + 1) / 12)
  local first = (month + 1) - year * 12 + 1
  if first <= 2 then
    year = year - 1
  end
  local era = floor(year / 400)
  local of_era = year - era * 400
  local day_of_year = floor((153 * (first > 2 and first - 3 or first + 9) + 2) / 5)
  return (era * 146097 + of_era * 365 + floor(of_era / 4) - floor(of_era / 100) + day_of_year - 719468) * DAY_US
end

local function limit(i)
  local n = tonumber(ARGV[i])
  return n >= 0 and n or nil
end

local LEASE_US = tonumber(ARGV[2])
local PER_MINUTE = { r = limit(3), t = limit(4) }
local CONCURRENT, BUDGET = limit(5), limit(6)

-- core/quota.put_back
local function put_back(a)
  local at, r, t, b = string.match(ARGV[7], '^(%d+) (%d+) (%d+) (%d+)$')
  local seen_us = tonumber(at)
  if seen_us >= a.born then
    return
  end
  local f = redis.call('HMGET', KEYS[1], 'pr', 'pt', 'pb')
  local whole = { r = min(seen_us + tonumber(r), NEVER_US), t = min(seen_us + tonumber(t), NEVER_US) }
  for i, rate in ipairs({ 'r', 't' }) do
    local before_us = tonumber(f[i] or 0)
    a[rate] = a[rate] + max(0, whole[rate] - max(before_us, a.at))
    whole[rate] = max(before_us, whole[rate])
  end
  local spent, before = tonumber(b), tonumber(f[3] or 0)
  if BUDGET and month_of(seen_us) == a.month then
    a.spent = a.spent + max(0, spent - before)
    before = max(before, spent)
  end
  redis.call('HSET', KEYS[1], 'pr', int(whole.r), 'pt', int(whole.t), 'pb', int(before))
  a.fresh = true
end

-- core/quota.advance
local function load()
  local now_us = server_us()
  local f = redis.call('HMGET', KEYS[1], 'at', 'r', 't', 'm', 'b', 'n')
  local at_us = tonumber(f[1] or 0)
  local born_us = f[1] and tonumber(f[6] or 0) or now_us
  if now_us < at_us then
    if at_us - now_us < STEP_BACK_US then
      now_us = at_us
    else
      redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. int(now_us + LEASE_US), '+inf')
      born_us = min(born_us, now_us)
    end
  end
  local elapsed_us = max(0, now_us - at_us)
  local a = { at = now_us, r = max(0, tonumber(f[2] or 0) - elapsed_us), t = max(0, tonumber(f[3] or 0) - elapsed_us), n = 0 }
  a.born, a.fresh = born_us, not f[1] or born_us ~= tonumber(f[6] or 0)
  if CONCURRENT then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', int(now_us))
    a.n = redis.call('ZCARD', KEYS[2])
  end
  a.month = month_of(now_us)
  a.spent = tonumber(f[4] or -1) == a.month and tonumber(f[5] or 0) or 0
  if ARGV[7] ~= '' then
    put_back(a)
  end
  return a
end

local function save(a)
  local ttl_ms = ceil(max(a.r, a.t) / 1000) + 60000
  if BUDGET then
    redis.call('HSET', KEYS[1], 'at', int(a.at), 'r', int(a.r), 't', int(a.t), 'm', int(a.month), 'b', int(a.spent))
    ttl_ms = max(ttl_ms, ceil((month_end_us(a.month) - a.at + DAY_US) / 1000))
  else
    redis.call('HSET', KEYS[1], 'at', int(a.at), 'r', int(a.r), 't', int(a.t))
  end
  if a.fresh then
    redis.call('HSET', KEYS[1], 'n', int(a.born))
  end
  redis.call('PEXPIRE', KEYS[1], int(ttl_ms))
end

-- Hold the slots ARGV[first..last]; returns how many of them are new.
local function hold(a, first, last)
  if not CONCURRENT or last < first then
    return
  end
  local expires_us = int(a.at + LEASE_US)
  for i = first, last do
    a.n = a.n + redis.call('ZADD', KEYS[2], expires_us, ARGV[i])
  end
  redis.call('PEXPIRE', KEYS[2], int(ceil(LEASE_US / 1000) + 1000))
end
