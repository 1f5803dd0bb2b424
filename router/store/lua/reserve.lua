-- core/quota.reserve, for one request or several, one after the other. ARGV[FIRST] how many, then of each: units of each
-- kind, number of slots, slots
-- Reply: of each, refusing kind (0 none), never, wait; then the standing
local a = load()
local reply, all_taken = {}, {}
local at = FIRST + 1
for i = 1, #KINDS do
  all_taken[i] = 0
end

-- Returns the refusing kind, never, wait.
local function reserve(cost, slots, first_slot)
  local refusing, wait_us, taken = 0, 0, {}
  for i = 1, #KINDS do
    local kind = KINDS[i]
    local n, longer_us = cost[i], 0
    if kind.shape == 'slots' then
      n = slots
    end
    if kind.limit and n > 0 then
      if n > kind.limit then
        return i, 1, 0
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
    for i = 1, #KINDS do
      all_taken[i] = all_taken[i] + cost[i]
    end
    hold(a, first_slot, first_slot + slots - 1)
  end
  return refusing, 0, wait_us
end

for q = 1, tonumber(ARGV[FIRST]) do
  local slots = tonumber(ARGV[at + #KINDS])
  local first_slot = at + #KINDS + 1
  reply[3 * q - 2], reply[3 * q - 1], reply[3 * q] = reserve(units(at), slots, first_slot)
  at = first_slot + slots
end
tally(all_taken)
save(a)
return standing(reply, a)
