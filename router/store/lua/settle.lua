-- core/quota.settle.
-- ARGV[FIRST..] units of each kind to give back, negative to charge, then: a time within the period in which they were
-- taken, the number of this settlement, how many slots to release, how many to drop, slots to release, slots to drop that
-- may never have been held, slots to renew
-- Reply: applied, standing. A settlement that is sent again is applied once; slots are renewed with it each time, unless
-- a later one has come already, which may have released them.
local a = load()
local back = units(FIRST)
local rest = FIRST + #KINDS
local taken_us, number, released = tonumber(ARGV[rest]), tonumber(ARGV[rest + 1]), tonumber(ARGV[rest + 2])
local dropped = tonumber(ARGV[rest + 3])
local first_slot = rest + 4
local last = tonumber(redis.call('HGET', KEYS[3], 'n') or 0)
local fresh = last < number

if fresh then
  redis.call('HSET', KEYS[3], 'n', ARGV[rest + 1])
  redis.call('PEXPIRE', KEYS[3], PURSE_MS)
  for i = 1, #KINDS do
    local kind = KINDS[i]
    local n = back[i]
    if kind.limit and kind.shape == 'rate' then
      a.used[i] = n < 0 and a.used[i] + charge_us(-n, kind.limit) or max(0, a.used[i] - refund_us(n, kind.limit))
    elseif kind.limit and kind.shape == 'sum' then
      if n < 0 or PERIODS[kind.period].number(taken_us) == a.periods[kind.period] then
        a.used[i] = max(0, a.used[i] - n)
      end
    end
  end
end
for i = first_slot, first_slot - 1 + released do
  local gone = redis.call('ZREM', KEYS[2], ARGV[i])
  a.used[SLOTS] = SLOTS_LIMIT and a.used[SLOTS] - gone or 0
  found(a, 1 - gone)
end
local first_kept = first_slot + released + dropped
for i = first_slot + released, first_kept - 1 do
  local gone = redis.call('ZREM', KEYS[2], ARGV[i])
  a.used[SLOTS] = SLOTS_LIMIT and a.used[SLOTS] - gone or 0
end
if last <= number then
  local before = a.used[SLOTS]
  hold(a, first_kept, #ARGV)
  found(a, a.used[SLOTS] - before)
end
save(a)
return standing({ fresh and 1 or 0 }, a)
