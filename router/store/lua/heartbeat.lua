-- A router says that it is alive. KEYS[1] sorted set: router -> last sign of life [2] version of the keys
-- [3] mark of this data [4] hash of the keys [5] their pepper
-- ARGV[1] router [2] after how many ms of silence a router no longer counts [3] a mark for data that has none yet
-- Reply: time in us, routers alive, version of the keys, mark, how many keys there are, whether there is a pepper
local t = redis.call('TIME')
local now_ms = t[1] * 1000 + math.floor(t[2] / 1000)
local now_text = string.format('%.0f', now_ms)
redis.call('ZADD', KEYS[1], now_text, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[3], ARGV[3], 'NX')
local version = tonumber(redis.call('GET', KEYS[2]) or 0)
local now_us = t[1] * 1000000 + t[2]
local routers = redis.call('ZCARD', KEYS[1]) -- one call a line: some servers tell only the line that was not permitted
local mark = redis.call('GET', KEYS[3])
local keys = redis.call('HLEN', KEYS[4])
local pepper = redis.call('EXISTS', KEYS[5])
return { now_us, routers, version, mark, keys, pepper }
