-- Forget a subject.
--
-- KEYS     the subject's, see queue.lua and large.lua
local key = KEYS[1]
local windows = redis.pcall('HKEYS', key .. ':w')
for _, window in ipairs(windows) do redis.call('DEL', key .. ':w' .. window) end
redis.call('DEL', key, key .. ':r', key .. ':w')
return 1
