-- core/spending.Book.add, once for each batch. KEYS[1] hash of the rows of one period: row -> requests, prompt tokens,
-- output tokens, microusd; [2] hash of its accounts: account -> microusd, first spent at, and for each of its limits, the
-- last first, the limit and the highest threshold that is not announced again; [3] the reply to this batch; [4] hash:
-- account -> when its record began, and how much of what was lost before has been put back into it
-- ARGV[1] ms for which the period is kept, [2] most rows, [3] most accounts, [4] the row of others, [5] time in s,
-- [6] a name for records that begin now, [7] number of rows, then each row: its name and four numbers; then each
-- account: its name, microusd, limit or -1, whether a request was refused, and where its router last saw it: the name of
-- the record, and its value, or ''; FULL and LIMITS_MAX are those of core/spending
-- Reply: for each threshold that is reached for the first time account, percent, microusd; and for each account the
-- name of its record and its value
local THRESHOLDS, FULL, LIMITS_MAX = { 50, 80, 100 }, 90, 8
local known = redis.call('GET', KEYS[3])
if known then
  return cjson.decode(known)
end
local i = 8
for _ = 1, ARGV[7] do
  local row = ARGV[i]
  local old = redis.call('HGET', KEYS[1], row)
  if not old and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then
    row = ARGV[4]
    old = redis.call('HGET', KEYS[1], row)
  end
  local n, p, o, c = string.match(old or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
  redis.call('HSET', KEYS[1], row,
    string.format('%.0f %.0f %.0f %.0f', n + ARGV[i + 1], p + ARGV[i + 2], o + ARGV[i + 3], c + ARGV[i + 4]))
  i = i + 5
end
-- core/spending.restored
local function restored(before, first, rest, back, seen)
  local spent, since, told = string.match(seen, '^(%d+) (%d+)(.*)$')
  spent = tonumber(spent)
  local limits, percents = {}, {}
  for _, list in ipairs({ rest, told }) do
    for limit, percent in string.gmatch(list, ' (%d+) (%d+)') do
      if not percents[limit] then
        limits[#limits + 1] = limit
      end
      percents[limit] = math.max(percents[limit] or 0, tonumber(percent))
    end
  end
  local kept = {}
  for n = 1, math.min(#limits, LIMITS_MAX) do
    kept[n] = ' ' .. limits[n] .. ' ' .. percents[limits[n]]
  end
  first = string.format('%.0f', math.min(tonumber(first), tonumber(since)))
  return before + math.max(0, spent - back), first, table.concat(kept), math.max(back, spent)
end

local reply, now = {}, {}
while i <= #ARGV do
  local account, limit, refused = ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 3] == '1'
  local old = redis.call('HGET', KEYS[2], account)
  if old or redis.call('HLEN', KEYS[2]) < tonumber(ARGV[3]) then
    local before, first, rest = string.match(old or ('0 ' .. ARGV[5]), '^(%d+) (%d+)(.*)$')
    local record = redis.call('HGET', KEYS[4], account)
    local born, back = string.match(record or (ARGV[6] .. ' 0'), '^(%d+) (%d+)$')
    if ARGV[i + 5] ~= '' and ARGV[i + 4] ~= born then
      before, first, rest, back = restored(tonumber(before), first, rest, tonumber(back), ARGV[i + 5])
    end
    record = string.format('%s %.0f', born, back)
    redis.call('HSET', KEYS[4], account, record)
    local spent = before + ARGV[i + 1]
    if limit >= 0 then
      local told, latest, others = nil, nil, {}
      for its, percent in string.gmatch(rest, ' (%d+) (%d+)') do
        latest = latest or tonumber(percent)
        if tonumber(its) == limit then
          told = tonumber(percent)
        elseif #others < LIMITS_MAX - 1 then
          others[#others + 1] = ' ' .. its .. ' ' .. percent
        end
      end
      if not told then
        told = 0
        for _, percent in ipairs(THRESHOLDS) do
          if percent <= (latest or 0) and tonumber(before) >= limit * percent / 100 then
            told = percent
          end
        end
      end
      local full = refused and spent >= limit * FULL / 100
      for _, percent in ipairs(THRESHOLDS) do
        if percent > told and (spent >= limit * percent / 100 or (full and percent == 100)) then
          told = percent
          reply[#reply + 1] = account
          reply[#reply + 1] = percent
          reply[#reply + 1] = string.format('%.0f', spent)
        end
      end
      rest = string.format(' %.0f %d', limit, told) .. table.concat(others)
    end
    local value = string.format('%.0f %s', spent, first) .. rest
    redis.call('HSET', KEYS[2], account, value)
    now[#now + 1] = account
    now[#now + 1] = born
    now[#now + 1] = value
  end
  i = i + 6
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[4], ARGV[1])
redis.call('SET', KEYS[3], cjson.encode({ reply, now }), 'PX', 600000)
return { reply, now }
