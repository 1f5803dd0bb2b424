-- core/quota.reserve. ARGV[FIRST..] units of each kind, then slots
-- Reply: refusing kind (0 none), never, wait, standing
local a = load()
local cost = units(FIRST)
local first_slot = FIRST + #KINDS
local slots = #ARGV - first_slot + 1
local refusing, wait_us, taken = 0, 0, {}

local function verdict(never)
  save(a)
  return standing({ refusing, never, wait_us }, a)
end

for i = 1, #KINDS do
  local kind = KINDS[i]
  local n, longer_us = cost[i], 0
  if kind.shape == 'slots' then
    n = slots
  end
  if kind.limit and n > 0 then
    if n > kind.limit then
      refusing, wait_us = i, 0
      return verdict(1)
    end
    if kind.shape == 'rate' then
      taken[i] = a.used[i] + charge_us(n, kind.limit)
      longer_us = taken[i] - MINUTE_US
    elseif kind.shape == 'slots' then
      longer_us = a.used[i] + n > kind.limit and CONCURRENT_WAIT_US or 0
    else
      taken[i] = a.used[i] + n
      longer_us = taken[i] > kind.limit and PERIODS[kind.period].end_us(a.periods[kind.period]) - a.at or 0
    end
    if longer_us > wait_us then
      refusing, wait_us = i, longer_us
    end
  end
end
if refusing == 0 then
  for i, total in pairs(taken) do
    a.used[i] = total
  end
  tally(cost)
  hold(a, first_slot, #ARGV)
end
return verdict(0)
