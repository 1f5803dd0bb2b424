-- core/quota.grant. ARGV[FIRST..] units of each kind wanted, then divisor, place of the requests in KINDS, slots offered
-- Reply: units of each kind taken, standing
local a = load()
local want = units(FIRST)
local divisor, requests_kind = tonumber(ARGV[FIRST + #KINDS]), tonumber(ARGV[FIRST + #KINDS + 1])
local first_slot = FIRST + #KINDS + 2
want[SLOTS] = #ARGV - first_slot + 1
local requests = want[requests_kind]
local n, taken = requests, {}

for i, kind in ipairs(KINDS) do
  if kind.limit and want[i] > 0 then
    local left = kind.shape == 'rate' and available(a.used[i], kind.limit) or max(0, kind.limit - a.used[i])
    local share = floor(left / divisor)
    if share < want[i] then
      n = min(n, floor(share * requests / want[i]))
    end
  end
end
for i, kind in ipairs(KINDS) do
  taken[i] = n < 1 and 0 or floor(want[i] * n / requests)
  if kind.limit and kind.shape == 'rate' then
    a.used[i] = a.used[i] + charge_us(taken[i], kind.limit)
  elseif kind.limit and kind.shape == 'sum' then
    a.used[i] = a.used[i] + taken[i]
  end
end
tally(taken)
hold(a, first_slot, first_slot - 1 + taken[SLOTS])
save(a)
return standing(taken, a)
