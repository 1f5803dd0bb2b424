-- Marks that all routers know. KEYS[1] sorted set: mark -> when it ends, in ms
-- ARGV[1] how many are kept [2..] pairs of a mark and the ms it has left. Reply: pairs of a mark and the ms it has left
local t = redis.call('TIME')
local now_ms = t[1] * 1000 + math.floor(t[2] / 1000)
local last_ms = 0
for i = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', now_ms + ARGV[i + 1]), ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[1])
local all, reply = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), {}
for i = 1, #all, 2 do
  last_ms = tonumber(all[i + 1])
  reply[#reply + 1] = all[i]
  reply[#reply + 1] = last_ms - now_ms
end
if last_ms > 0 then
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last_ms))
end
return reply
