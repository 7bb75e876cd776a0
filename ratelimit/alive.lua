-- An instance looks at a mark, or says at it that it is alive and that Redis knows of all that
-- it admitted. All instances stand in one sorted set by when they last said so, together with
-- a member that names this Redis's data. Where an instance said so later than the set knows
-- of, what was admitted since was lost, or all of it where the set does not know the instance:
-- the data then gets another name.
--
-- KEYS[1]  the set
-- ARGV     the instance; "look", "say", or "leave" if it goes; when it last said so here, in
--          Redis's milliseconds, 0 if never; after how many milliseconds of silence an instance
--          is dead; a name for the data if it needs one; the instant since which instances are
--          counted
-- Returns  the instant, the number of instances alive, of those that said so since the
--          instant asked for, the name of the data, when the instance last said so as far as
--          the set knows. What is said is noted only where that is no earlier than it should be
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local far = 9e15 -- the score of the data's name
local function text(n) return string.format('%.0f', n) end

local set, instance, said = KEYS[1], ARGV[1], tonumber(ARGV[3])
if call('TYPE', set).ok ~= 'zset' then call('DEL', set) end -- what has another type than ours is not ours
local known = tonumber(call('ZSCORE', set, instance) or '0')
if ARGV[2] == 'leave' then
  call('ZREM', set, instance)
elseif ARGV[2] == 'say' and known >= said then
  call('ZADD', set, text(now), instance)
end
if ARGV[2] == 'say' then
  -- Who is dead is remembered for a day, so that it learns whether Redis lost anything meanwhile,
  -- where there are no more than 1,024 instances.
  call('ZREMRANGEBYSCORE', set, '-inf', text(now - 86400000))
  local last = call('ZRANGE', set, -1026, -1026, 'WITHSCORES')[2]
  if last then call('ZREMRANGEBYSCORE', set, '-inf', text(math.min(tonumber(last), now - ARGV[4]))) end
end
local data = call('ZRANGEBYSCORE', set, text(far), '+inf')[1]
if not data or known < said then
  if data then call('ZREM', set, data) end
  data = ARGV[5]
  call('ZADD', set, text(far), data)
end
call('PEXPIRE', set, 86400000)
local before = '(' .. text(far)
local function since(instant) return call('ZCOUNT', set, instant, before) end
return { now, since('(' .. text(now - ARGV[4])), since(ARGV[6]), data, known }
