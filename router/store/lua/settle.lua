-- core/quota.settle. KEYS[3] number of the last settlement of this router that was applied.
-- ARGV[8] requests [9] tokens [10] micro-USD to give back, negative to charge [11] month of the money
-- [12] number of this settlement [13] how many slots to release [14..] slots to release, then slots to renew
-- Reply: applied, at, r, t, slots, spent. A settlement that is sent again is applied once.
local SEEN_MS = 600000

local a = load()
local released = tonumber(ARGV[13])
local fresh = tonumber(redis.call('GET', KEYS[3]) or 0) < tonumber(ARGV[12])

local function signed(deficit_us, back, per_minute)
  if not per_minute then
    return deficit_us
  end
  if back < 0 then
    return deficit_us + charge_us(-back, per_minute)
  end
  return max(0, deficit_us - refund_us(back, per_minute))
end

if fresh then
  redis.call('SET', KEYS[3], ARGV[12], 'PX', SEEN_MS)
  a.r = signed(a.r, tonumber(ARGV[8]), PER_MINUTE.r)
  a.t = signed(a.t, tonumber(ARGV[9]), PER_MINUTE.t)
  local microusd = tonumber(ARGV[10])
  if BUDGET and (microusd < 0 or tonumber(ARGV[11]) == a.month) then
    a.spent = max(0, a.spent - microusd)
  end
end
for i = 14, 13 + released do
  local gone = redis.call('ZREM', KEYS[2], ARGV[i])
  a.n = CONCURRENT and a.n - gone or 0
end
hold(a, 14 + released, #ARGV)
save(a)
return { fresh and 1 or 0, a.at, a.r, a.t, a.n, a.spent }
