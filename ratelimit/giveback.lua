-- Give back a request that was admitted.
--
-- KEYS     the subject's, see queue.lua and large.lua
-- ARGV     the instant at which it was admitted, in milliseconds
local call, field, pack = redis.call, struct.unpack, struct.pack
local now = tonumber(ARGV[1])
local key, s = KEYS[1], redis.call('GET', KEYS[1])
local large = key .. ':w'

--include queue.lua

local q = open(key, s)
local n = length(q)

-- Windows of sub-buckets: one less from that on that holds it, the first that ends then or later.
local longest, counts = 0, false
if q.version == 3 then
  local windows = call('HKEYS', large)
  if #windows == 0 then elsewhere(key, large) end
  for _, window in ipairs(windows) do -- before anything is written
    if window ~= 'stamps' and call('LLEN', large .. window) == 0 then elsewhere(key, large .. window) end
  end
  for _, window in ipairs(windows) do
    if window ~= 'stamps' then
      local list = large .. window
      for i = call('LLEN', list) - 2, 2, -2 do
        if tonumber(call('LINDEX', list, i)) < now then break end
        call('LSET', list, i + 1, string.format('%.0f', call('LINDEX', list, i + 1) - 1))
      end
      local before, total = call('LINDEX', list, 1), call('LINDEX', list, -1)
      counts = counts or before and tonumber(total) > tonumber(before)
      longest = math.max(longest, tonumber(window))
    end
  end
end

-- With large limits alone the one stamp tells the time, it does not count.
if n > 0 and not (q.version == 3 and call('HGET', large, 'stamps') == '0') then
  -- Time may have stood still at a later stamp: the first of those it is then.
  local i = n
  while i > 0 and at(q, i - 1) >= now do i = i - 1 end
  if i < n then
    if n == 1 and counts then
      -- A key without a stamp is none. All others were out of the windows of the stamps when this one
      -- came, and so is it now, also for a clock that is set back by a minute.
      local covers = tonumber(call('HGET', large, 'stamps') or '0')
      q.body = pack('<I5', at(q, 0) - math.min(covers, longest) - 60000)
    elseif i >= q.front + 8 * q.middle then
      local from = 5 * (i - 8 * q.middle)
      q.body = string.sub(q.body, 1, from) .. string.sub(q.body, from + 6)
    else
      local list = all(q)
      table.remove(list, i + 1)
      refill(q, list)
    end
    local value, ttl = close(q), call('PTTL', key)
    if value then call('SET', key, value, 'PX', math.max(ttl, 1000)) else call('DEL', key) end
  end
end
return 1
