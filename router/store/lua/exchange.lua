-- Routers tell each other what they have in flight. KEYS[1] hash: router -> time in ms, space, payload
-- ARGV[1] router [2] its payload; empty: the one before stays [3] after how many ms a payload is forgotten
--   [4] channel [5] what those that listen there are told; empty: nothing [6] 1: read
-- Reply, if it reads: for each other router its name, the age of its payload in ms, and the payload
if ARGV[5] ~= '' then
  redis.pcall('PUBLISH', ARGV[4], ARGV[1] .. '\n' .. ARGV[5]) -- where that is not permitted, all read more often
end
local t = redis.call('TIME')
local now_ms = t[1] * 1000 + math.floor(t[2] / 1000)
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now_ms) .. ' ' .. ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local reply = {}
if ARGV[6] ~= '1' then
  return reply
end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at_ms, payload = string.match(all[i + 1], '^(%d+) (.*)$')
  local age_ms = now_ms - tonumber(at_ms)
  if age_ms > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[1] then
    reply[#reply + 1] = all[i]
    reply[#reply + 1] = age_ms
    reply[#reply + 1] = payload
  end
end
return reply
