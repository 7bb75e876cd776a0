-- An instance says that it is alive. All instances stand in one sorted set by when they last
-- said so, together with a member that names this Redis's data: where it is another than
-- before, the data was lost.
--
-- KEYS[1]  the set
-- ARGV     the instance that is alive, or ""; after how many milliseconds of silence an
--          instance is dead; a name for the data if it has none; the instant since which
--          instances are counted; the instance that leaves, or ""
-- Returns  the instant, the number of instances alive, of those that said so since the
--          instant asked for, the name of the data
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local far = 9e15 -- the score of the data's name
local function text(n) return string.format('%.0f', n) end

if ARGV[1] ~= '' then redis.call('ZADD', KEYS[1], text(now), ARGV[1]) end
if ARGV[5] ~= '' then redis.call('ZREM', KEYS[1], ARGV[5]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - ARGV[2]))
local data = redis.call('ZRANGEBYSCORE', KEYS[1], text(far), '+inf')[1]
if not data then
  data = ARGV[3]
  redis.call('ZADD', KEYS[1], text(far), data)
end
redis.call('PEXPIRE', KEYS[1], 86400000)
local since = redis.call('ZCOUNT', KEYS[1], ARGV[4], '(' .. text(far))
return { now, redis.call('ZCARD', KEYS[1]) - 1, since, data }
