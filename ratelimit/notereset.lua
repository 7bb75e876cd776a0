-- Note a subject in the list of resets, from which the other instances learn that what they
-- remember of it is void.
--
-- KEYS[1]  the resets: a sorted set, later ones with higher scores
-- ARGV     the subject's name in the resets; how many resets to keep; for how many milliseconds
-- Returns  its score
local t = redis.call('TIME')
local score = t[1] * 1000 + math.floor(t[2] / 1000)
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end -- what has another type than ours is not ours
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last then score = math.max(score, tonumber(last) + 1) end
redis.call('ZADD', KEYS[1], string.format('%.0f', score), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return score
