-- The arithmetic of core/quota.py, line by line; a property test runs both on the same sequences. Put in front of each
-- script of an account, after KINDS, which is made from core/limits.py:
--   KINDS[i] = { shape = 'rate' | 'slots' | 'sum', field = …, period = …, period_field = … }
-- FIELDS and BACK_FIELDS are the names of all fields below, those of what was put back apart.
-- All numbers are integers below 2^53. Times are microseconds of this server's clock.
-- KEYS[1] hash: at, n (since when this hash exists), of each kind its field (a deficit or a sum), of each period its field
-- (the number of the period that the sums belong to), and 'p' .. field: what was put back (until when a rate was used, or
-- how much of a sum); '+p': the same of slots, and '+u': how many of those nobody has renewed yet; 'l' .. field: the limit in
-- whose terms the deficit is; 'h' .. field: what a lowered limit leaves out (core/quota.Lowered)   KEYS[2] sorted set: slot -> expiry
-- KEYS[3] hash: what one purse has taken of each kind (the field of the kind), n (the number of its last settlement)
-- ARGV[1] now, or '' for TIME   [2] lease   [3..] the limit of each kind; -1: no limit   then where the caller last saw
-- the account, as 'at' and a number for each kind, or ''   [FIRST..] the arguments of the script itself

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

local function day_of(now_us)
  return floor(now_us / DAY_US)
end

local function day_end_us(day)
  return (day + 1) * DAY_US
end

local PERIODS = {
  month = { number = month_of, end_us = month_end_us },
  day = { number = day_of, end_us = day_end_us },
}

local LEASE_US = tonumber(ARGV[2])
local SEEN = ARGV[3 + #KINDS]
local FIRST = 4 + #KINDS
local SLOTS -- the one kind of shape 'slots'
for i = 1, #KINDS do
  local kind, limit = KINDS[i], tonumber(ARGV[2 + i])
  kind.limit = limit >= 0 and limit or nil
  if kind.shape == 'slots' then
    SLOTS = i
  end
end
local SLOTS_LIMIT = KINDS[SLOTS].limit

-- The numbers ARGV[first..] for each kind.
local function units(first)
  local u = {}
  for i = 1, #KINDS do
    u[i] = tonumber(ARGV[first + i - 1])
  end
  return u
end

-- The numbers in a hash under these names.
local function stored(names, key)
  local values = redis.call('HMGET', key or KEYS[1], unpack(names))
  local numbers = {}
  for i = 1, #names do
    local value = values[i]
    if value then
      numbers[names[i]] = tonumber(value)
    end
  end
  return numbers
end

-- core/quota.put_back
local function put_back(a)
  local seen = {}
  for n in string.gmatch(SEEN, '%d+') do
    seen[#seen + 1] = tonumber(n)
  end
  local seen_us, back = seen[1], nil
  if a.stored.at and a.stored.at < seen_us then
    a.born = a.at
    seen_us = min(seen_us, a.at - 1)
    back = {}
    for i, kind in ipairs(KINDS) do
      if kind.field then
        back['p' .. kind.field] = kind.shape == 'rate' and a.at + a.used[i] or a.used[i]
      end
    end
    back['+p'] = a.used[SLOTS]
    for name, value in pairs(back) do
      redis.call('HSET', KEYS[1], name, int(value))
    end
    a.fresh = true
  end
  if seen_us >= a.born then
    return
  end
  back = back or stored(BACK_FIELDS)
  for i, kind in ipairs(KINDS) do
    if kind.field then
      local before = back['p' .. kind.field] or 0
      local now = before
      if kind.shape == 'rate' then
        local full_us = min(seen_us + seen[1 + i], NEVER_US)
        a.used[i] = a.used[i] + max(0, full_us - max(before, a.at))
        now = max(before, full_us)
      elseif kind.limit and PERIODS[kind.period].number(seen_us) == a.periods[kind.period] then
        a.used[i] = a.used[i] + max(0, seen[1 + i] - before)
        now = max(before, seen[1 + i])
      end
      if now ~= before then
        redis.call('HSET', KEYS[1], 'p' .. kind.field, int(now))
      end
    end
  end
  if SLOTS_LIMIT and a.at < a.born + floor(LEASE_US / 2) then
    local before, now = back['+p'] or 0, seen[1 + SLOTS]
    if now > before then
      a.unknown = a.unknown + now - before
      a.used[SLOTS] = a.used[SLOTS] + now - before
      redis.call('HSET', KEYS[1], '+p', int(now))
    end
  end
  a.fresh = true
end

-- core/quota.take_over
local function take_over(a)
  a.lowered = {}
  for i, kind in ipairs(KINDS) do
    local before = kind.shape == 'rate' and kind.limit and a.stored['l' .. kind.field] or 0
    if before > 0 and before ~= kind.limit then
      local used, name = a.used[i], 'h' .. kind.field
      local high, owed_us = before, used
      local past = redis.call('HGET', KEYS[1], name)
      if past then
        a.lowered[name] = false
        local its, owed, kept, at = string.match(past, '^(%d+) (%d+) (%d+) (%d+)$')
        local passed_us = a.at - at
        if passed_us >= 0 and passed_us < MINUTE_US then
          high = tonumber(its)
          local since_us = used - max(0, kept - passed_us)
          owed_us = max(0, owed - passed_us) + ceil(since_us * before / high)
          owed_us = min(max(0, owed_us), NEVER_US)
        end
      end
      local same_us = ceil(owed_us * high / kind.limit)
      a.used[i] = min(same_us, max(used, MINUTE_US))
      if a.used[i] < same_us then
        a.lowered[name] = string.format('%.0f %.0f %.0f %.0f', high, owed_us, a.used[i], a.at)
      end
    end
    a.fresh = a.fresh or (kind.shape == 'rate' and kind.limit and before ~= kind.limit)
  end
end

-- core/quota.advance
local function load()
  local now_us = server_us()
  local f = stored(FIELDS)
  local at_us = f.at or 0
  local born_us = f.at and (f.n or 0) or now_us
  if now_us < at_us then
    if at_us - now_us < STEP_BACK_US then
      now_us = at_us
    else
      redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. int(now_us + LEASE_US), '+inf')
      born_us = min(born_us, now_us)
    end
  end
  local elapsed_us = max(0, now_us - at_us)
  local a = { at = now_us, born = born_us, stored = f, used = {}, periods = {}, unknown = 0 }
  if SLOTS_LIMIT and now_us < born_us + floor(LEASE_US / 2) then
    a.unknown = f['+u'] or 0
  end
  a.fresh = not f.at or born_us ~= (f.n or 0)
  local used = a.used
  for i = 1, #KINDS do
    local kind = KINDS[i]
    local shape, before = kind.shape, f[kind.field]
    if shape == 'rate' then
      used[i] = before and before > elapsed_us and before - elapsed_us or 0
    elseif shape == 'sum' then
      used[i] = 0
      if kind.limit or before then
        local number = PERIODS[kind.period].number(now_us)
        a.periods[kind.period] = number
        used[i] = before and f[kind.period_field] == number and before or 0
      end
    elseif kind.limit then
      redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', int(now_us))
      used[i] = redis.call('ZCARD', KEYS[2]) + a.unknown
    else
      used[i] = 0
    end
  end
  take_over(a)
  if SEEN ~= '' then
    put_back(a)
  end
  return a
end

local function save(a)
  local ttl_ms = 60000
  local fields = { 'at', int(a.at) }
  local n = 2
  for i = 1, #KINDS do
    local kind, used = KINDS[i], a.used[i]
    if kind.shape == 'rate' and (kind.limit or used > 0 or a.stored[kind.field]) then
      fields[n + 1], fields[n + 2] = kind.field, int(used)
      n = n + 2
      if kind.limit and a.stored['l' .. kind.field] ~= kind.limit then
        fields[n + 1], fields[n + 2] = 'l' .. kind.field, int(kind.limit)
        n = n + 2
      end
      ttl_ms = max(ttl_ms, ceil(used / 1000) + 60000)
    elseif kind.shape == 'sum' and (kind.limit or a.stored[kind.field]) then
      local number = a.periods[kind.period]
      fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = kind.field, int(used), kind.period_field, int(number)
      n = n + 4
      if kind.limit then
        ttl_ms = max(ttl_ms, ceil((PERIODS[kind.period].end_us(number) - a.at + DAY_US) / 1000))
      end
    end
  end
  if a.fresh then
    fields[n + 1], fields[n + 2] = 'n', int(a.born)
  end
  for name, text in pairs(a.lowered) do
    if text then
      fields[#fields + 1] = name
      fields[#fields + 1] = text
    else
      redis.call('HDEL', KEYS[1], name)
    end
  end
  if SLOTS_LIMIT and a.unknown ~= (a.stored['+u'] or 0) then
    fields[#fields + 1] = '+u'
    fields[#fields + 1] = int(a.unknown)
  end
  redis.call('HSET', KEYS[1], unpack(fields))
  redis.call('PEXPIRE', KEYS[1], int(ttl_ms))
end

-- Hold the slots ARGV[first..last].
local function hold(a, first, last)
  if not SLOTS_LIMIT or last < first then
    return
  end
  local expires_us = int(a.at + LEASE_US)
  for i = first, last do
    a.used[SLOTS] = a.used[SLOTS] + redis.call('ZADD', KEYS[2], expires_us, ARGV[i])
  end
  redis.call('PEXPIRE', KEYS[2], int(ceil(LEASE_US / 1000) + 1000))
end

-- Count what this purse has taken, for when it does not hear of it.
local PURSE_MS = 600000
local function tally(taken)
  local before, fields, n = stored(USED_FIELDS, KEYS[3]), {}, 0
  for i = 1, #KINDS do
    local field = KINDS[i].field
    if field and taken[i] > 0 then
      fields[n + 1], fields[n + 2] = field, int((before[field] or 0) + taken[i])
      n = n + 2
    end
  end
  if n > 0 then
    redis.call('HSET', KEYS[3], unpack(fields))
    redis.call('PEXPIRE', KEYS[3], PURSE_MS)
  end
end

-- Of the slots that were put back, these many have been heard of.
local function found(a, n)
  n = min(n, a.unknown)
  a.unknown = a.unknown - n
  a.used[SLOTS] = a.used[SLOTS] - n
end

-- The end of every reply: at, born, and the standing of each kind.
local function standing(reply, a)
  reply[#reply + 1] = a.at
  reply[#reply + 1] = a.born
  for i = 1, #KINDS do
    reply[#reply + 1] = a.used[i]
  end
  return reply
end
