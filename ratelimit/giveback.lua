-- Give back a request that was admitted.
--
-- KEYS     the two of the subject, see take.lua
-- ARGV     the instant at which it was admitted, in milliseconds
local at = tonumber(ARGV[1])
local lone = redis.call('HGET', KEYS[2], 'stamps') == '0' -- the stamp tells the time, it does not count
if not lone then
  -- Time may have stood still at a later stamp: that one it is then.
  for i = -1, -redis.call('LLEN', KEYS[1]), -1 do
    local stamp = redis.call('LINDEX', KEYS[1], i)
    if tonumber(stamp) < at then break end
    if tonumber(stamp) == at or i == -redis.call('LLEN', KEYS[1])
        or tonumber(redis.call('LINDEX', KEYS[1], i - 1)) < at then
      redis.call('LREM', KEYS[1], -1, stamp)
      break
    end
  end
end
for _, window in ipairs(redis.call('HKEYS', KEYS[2])) do
  if window ~= 'stamps' then
    -- One less from the sub-bucket on that holds it: the first that ends then or later.
    local key = KEYS[2] .. window
    for i = redis.call('LLEN', key) - 2, 2, -2 do
      if tonumber(redis.call('LINDEX', key, i)) < at then break end
      redis.call('LSET', key, i + 1, string.format('%.0f', redis.call('LINDEX', key, i + 1) - 1))
    end
  end
end
return 1
