-- Forget a subject.
--
-- KEYS     the two of the subject, see take.lua
for _, window in ipairs(redis.call('HKEYS', KEYS[2])) do redis.call('DEL', KEYS[2] .. window) end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
