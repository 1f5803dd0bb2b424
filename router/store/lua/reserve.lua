-- core/quota.reserve. ARGV[8] requests [9] tokens [10] micro-USD [11..] slots
-- Reply: refusing limit (0 none, 1 requests, 2 tokens, 3 concurrent, 4 budget), never, wait, at, r, t, slots, spent
local a = load()
local cost = { r = tonumber(ARGV[8]), t = tonumber(ARGV[9]) }
local microusd, slots = tonumber(ARGV[10]), #ARGV - 10
local refusing, wait_us, add = 0, 0, { r = 0, t = 0 }

local function verdict(never)
  save(a)
  return { refusing, never, wait_us, a.at, a.r, a.t, a.n, a.spent }
end

local function never(code)
  refusing, wait_us = code, 0
  return verdict(1)
end

local function longest(code, us)
  if us > wait_us then
    refusing, wait_us = code, us
  end
end

for code, rate in ipairs({ 'r', 't' }) do
  local per_minute = PER_MINUTE[rate]
  if per_minute then
    if cost[rate] > per_minute then
      return never(code)
    end
    add[rate] = charge_us(cost[rate], per_minute)
    if cost[rate] > 0 then
      longest(code, a[rate] + add[rate] - MINUTE_US)
    end
  end
end
if CONCURRENT and slots > 0 then
  if slots > CONCURRENT then
    return never(3)
  end
  if a.n + slots > CONCURRENT then
    longest(3, CONCURRENT_WAIT_US)
  end
end
if BUDGET and microusd > 0 then
  if microusd > BUDGET then
    return never(4)
  end
  if a.spent + microusd > BUDGET then
    longest(4, month_end_us(a.month) - a.at)
  end
end
if refusing == 0 then
  a.r, a.t = a.r + add.r, a.t + add.t
  if BUDGET then
    a.spent = a.spent + microusd
  end
  hold(a, 11, #ARGV)
end
return verdict(0)
