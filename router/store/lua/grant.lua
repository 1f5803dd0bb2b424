-- core/quota.grant. ARGV[8] requests [9] tokens [10] micro-USD wanted [11] divisor [12..] slots offered
-- Reply: requests, tokens, micro-USD, slots taken, at, r, t, slots, spent
local a = load()
local requests, tokens, microusd, divisor = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local slots = #ARGV - 11
local n = requests

local function portion(share, want)
  if share < want then
    n = min(n, floor(share * requests / want))
  end
end

if PER_MINUTE.r then
  portion(floor(available(a.r, PER_MINUTE.r) / divisor), requests)
end
if PER_MINUTE.t and tokens > 0 then
  portion(floor(available(a.t, PER_MINUTE.t) / divisor), tokens)
end
if CONCURRENT and slots > 0 then
  portion(floor(max(0, CONCURRENT - a.n) / divisor), slots)
end
if BUDGET and microusd > 0 then
  portion(floor(max(0, BUDGET - a.spent) / divisor), microusd)
end
if n < 1 then
  save(a)
  return { 0, 0, 0, 0, a.at, a.r, a.t, a.n, a.spent }
end
tokens, microusd, slots = floor(tokens * n / requests), floor(microusd * n / requests), floor(slots * n / requests)
if PER_MINUTE.r then
  a.r = a.r + charge_us(n, PER_MINUTE.r)
end
if PER_MINUTE.t then
  a.t = a.t + charge_us(tokens, PER_MINUTE.t)
end
if BUDGET then
  a.spent = a.spent + microusd
end
hold(a, 12, 11 + slots)
save(a)
return { n, tokens, microusd, slots, a.at, a.r, a.t, a.n, a.spent }
