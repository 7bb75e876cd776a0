-- What take.lua does not decide by a look: several limits, limits of more than the exact bound,
-- limits that changed, clocks that were set back, stamps in the ring, values that are damaged.
--
-- Beside queue.lua, where a subject has or had large limits:
--
-- key:w         a hash: for each window that is counted in sub-buckets, when a limit last asked for
--               it; and "stamps", the longest window that the subject's own instants cover
-- key:wWINDOW   the list of that window's sub-buckets, two elements each: the instant of its last
--               request, and how many requests were ever counted up to then. Before the oldest
--               that counts, one that does not is kept
local exact = field('<I4', args)
local function text(n) return string.format('%.0f', n) end
local function bucket(key, i) return tonumber(call('LINDEX', key, i)) end

-- ended is how many of n sub-buckets ended at or before edge.
local function ended(key, n, edge)
  if n == 0 or bucket(key, 0) > edge then return 0 end
  local low, high = 0, 1
  while high < n and bucket(key, 2 * high) <= edge do low, high = high, high * 2 end
  if high > n then high = n end
  while low + 1 < high do
    local mid = math.floor((low + high) / 2)
    if bucket(key, 2 * mid) <= edge then low = mid else high = mid end
  end
  return high
end

local function large_stand(s, from, limit, window)
  local key = s.large .. text(from)
  local n = call('LLEN', key) / 2
  if n == 0 then
    elsewhere(s.q.key, key)
    return 0, now
  end
  local gone, total = ended(key, n, s.t - window), bucket(key, -1)
  local used = total - bucket(key, 2 * gone - 1)
  if used == 0 then return 0, now end
  while total - bucket(key, 2 * gone + 1) >= limit do gone = gone + 1 end
  return used, bucket(key, 2 * gone) + window
end

local function large_add(key, t, window, n)
  local width, total, last = math.floor((window + 255) / 256), bucket(key, -1) or 0, bucket(key, -2)
  if not last then call('RPUSH', key, '0', '0') end
  if last and last > 0 and math.floor(last / width) == math.floor(t / width) then
    call('LSET', key, -2, text(t))
    call('LSET', key, -1, text(total + n))
    return
  end
  call('RPUSH', key, text(t), text(total + n))
  local gone = ended(key, call('LLEN', key) / 2, t - window)
  if gone > 1 then call('LTRIM', key, 2 * (gone - 1), -1) end
end

-- source is the window of the sub-buckets that a limit is answered from; nil for the stamps.
-- After limits changed, what remembers longest stands in.
local function source(s, limit, window)
  if not s.longest then return nil end
  if limit <= exact then
    if s.stamps >= math.min(window, s.longest) then return nil end
    return s.longest
  end
  if s.asked[window] then return window end
  if s.longest >= s.stamps then return s.longest end
  return nil
end

-- stand says how many requests count for a limit, and its reset.
local function stand(s, limit, window)
  local from = source(s, limit, window)
  if from then return large_stand(s, from, limit, window) end
  local n, gone = length(s.q), expired(s.q, s.t - window)
  local used = n - gone
  if used >= limit then return used, at(s.q, n - limit) + window end
  if used > 0 then return used, at(s.q, gone) + window end
  return 0, now
end

-- stamps_from replaces the stamps by the newest requests of a window, at most limit, each at
-- the last instant of its sub-bucket.
local function stamps_from(s, window, limit)
  local list, stamps = call('LRANGE', s.large .. text(window), 0, -1), {}
  local skip = math.max(0, tonumber(list[#list]) - tonumber(list[2]) - limit)
  for i = 3, #list, 2 do
    for _ = 1, list[i + 1] - list[i - 1] do
      if skip > 0 then skip = skip - 1 else stamps[#stamps + 1] = tonumber(list[i]) end
    end
  end
  refill(s.q, stamps)
end

-- admit_large counts the request in every window that is or recently was counted in
-- sub-buckets, makes those that are newly needed, and prepares the stamps.
local function admit_large(s)
  local asked, made, looked = s.asked, {}, {}
  -- Before anything is written: what was not looked at to see whether there is room.
  if s.q.middle > 0 and call('STRLEN', s.q.ring) ~= CHUNK * s.q.room then gone(s.q) end
  for _, l in ipairs(s.limits) do looked[l[2]] = l[1] > exact end
  for window in pairs(asked) do
    if not looked[window] and call('LLEN', s.large .. text(window)) == 0 then elsewhere(s.q.key, s.large .. text(window)) end
  end
  if s.q.version == 2 then call('DEL', s.large) end
  for _, l in ipairs(s.limits) do
    local limit, window = l[1], l[2]
    if limit > exact and not asked[window] and not made[window] then
      local key, from = s.large .. text(window), source(s, limit, window)
      call('DEL', key)
      if from then
        for _, v in ipairs(call('LRANGE', s.large .. text(from), 0, -1)) do call('RPUSH', key, v) end
      else
        for _, t in ipairs(all(s.q)) do large_add(key, t, window, 1) end
      end
      made[window] = true
    end
  end
  if s.limit > 0 and source(s, 1, s.window) then stamps_from(s, s.longest, s.limit) end
  for _, l in ipairs(s.limits) do
    if l[1] > exact then asked[l[2]] = s.t end
  end
  for window, when in pairs(asked) do
    if s.t - when >= window and when ~= s.t then
      asked[window] = nil
      call('DEL', s.large .. text(window))
      call('HDEL', s.large, text(window))
    end
  end
  s.longest = nil
  for window, when in pairs(asked) do
    large_add(s.large .. text(window), s.t, window, 1)
    call('PEXPIRE', s.large .. text(window), s.q.till * 1000 - now)
    call('HSET', s.large, text(window), text(when))
    s.longest = math.max(s.longest or 0, window)
  end
  if s.longest then
    call('HSET', s.large, 'stamps', text(s.window))
    call('PEXPIRE', s.large, s.q.till * 1000 - now)
    s.q.version = 3
  else
    call('DEL', s.large)
    s.q.version = 2
  end
  s.stamps = s.window
end

-- read gives a subject and says whether all its limits have room.
local function read(k, limits)
  local s = { k = k, q = open(KEYS[k], values[k]), large = KEYS[k] .. ':w', t = now, limits = limits, window = 0, limit = 0, keep = 0 }
  local n = length(s.q)
  if n > 0 then s.t = math.max(now, at(s.q, n - 1)) end -- stamps stay sorted when the clock steps back
  if s.q.version == 3 then
    s.asked, s.stamps = {}, 0
    local hash = call('HGETALL', s.large)
    if #hash == 0 then elsewhere(s.q.key, s.large) end
    for f = 1, #hash, 2 do
      local window, when = tonumber(hash[f]), tonumber(hash[f + 1])
      if window then
        s.asked[window], s.longest = when, math.max(s.longest or 0, window)
        s.keep = math.max(s.keep, window)
      else
        s.stamps = when
      end
    end
  end
  local room, any_large = true, false
  for _, l in ipairs(limits) do
    local limit, window = l[1], l[2]
    s.keep = math.max(s.keep, window)
    if limit > exact then
      any_large = true
    else
      s.window, s.limit = math.max(s.window, window), math.max(s.limit, limit)
    end
    if source(s, limit, window) then
      if stand(s, limit, window) >= limit then room = false end
    elseif n >= limit and s.t - at(s.q, n - limit) < window then
      room = false
    end
  end
  if any_large and not s.asked then s.asked, s.stamps = {}, math.huge end
  return s, room
end

local function admit(s)
  keep(s.q, s.keep + s.t - now)
  if s.asked then admit_large(s) end
  local gone = length(s.q)
  if s.limit > 0 then gone = expired(s.q, s.t - s.window) end
  if gone > 0 then drop(s.q, gone) end
  push(s.q, s.t)
  values[s.k], lasts[s.k] = close(s.q), s.q.till * 1000 - now
end

-- whole decides on one request and gives its part of the answer.
local function whole(take, which)
  -- Read everything first: nothing is written for a request that is denied.
  local subjects, admitted = {}, true
  for i, w in ipairs(which) do
    local s, room = read(w[1], w[2])
    subjects[i], admitted = s, admitted and room
  end
  if take and admitted then
    for _, s in ipairs(subjects) do admit(s) end
  end
  local reply = { string.char(admitted and 1 or 0) }
  for _, s in ipairs(subjects) do
    local speaks, count, left, reset, counts = nil, 0, 0, -1, ''
    for j, l in ipairs(s.limits) do
      local used, free = stand(s, l[1], l[2])
      counts = counts .. pack('<I4', used)
      local remaining = math.max(0, l[1] - used)
      if not speaks or remaining < left or (remaining == left and free > reset) then
        speaks, count, left, reset = j, used, remaining, free
      end
    end
    if #s.limits == 1 then
      reply[#reply + 1] = pack('<I4I6', count, reset)
    else
      reply[#reply + 1] = pack('<BI4I6', speaks, count, reset) .. counts
    end
  end
  return table.concat(reply)
end

-- sound says whether all that is kept of a subject can be read.
local function sound(k)
  return (pcall(function()
    local q = open(KEYS[k], values[k])
    if q.room > 0 and call('STRLEN', q.ring) ~= CHUNK * q.room then error('corrupt: a ring is gone') end
    all(q)
    if q.version ~= 3 then return end
    local large = KEYS[k] .. ':w'
    for _, window in ipairs(call('HKEYS', large)) do
      if window ~= 'stamps' then
        local list = call('LRANGE', large .. window, 0, -1)
        if #list < 2 then error('corrupt: sub-buckets are gone') end
        for _, v in ipairs(list) do if not tonumber(v) then error('corrupt: a sub-bucket') end end
      end
    end
  end))
end

-- decide is whole, with subjects begun anew whose values are damaged or not ours: an error would
-- come again with each of their requests. The others keep what they count. An error of Redis's own
-- is none of theirs.
local function decide(take, which)
  local before = {}
  for _, w in ipairs(which) do before[w[1]] = { values[w[1]], lasts[w[1]] } end
  for attempt = 1, 3 do
    local ok, reply = pcall(whole, take, which)
    if ok then return reply end
    local why = type(reply) == 'table' and reply.err or tostring(reply)
    if attempt == 3 or not (why:find('WRONGTYPE') or why:find('corrupt') or why:find('attempt to') or why:find('bad argument') or why:find('too short')) then
      error(reply)
    end
    for _, w in ipairs(which) do
      local k = w[1]
      values[k], lasts[k] = before[k][1], before[k][2]
      if attempt == 2 or not sound(k) then
        call('DEL', KEYS[k], KEYS[k] .. ':r', KEYS[k] .. ':w')
        values[k], lasts[k], behind[k] = false, nil, nil
        before[k] = { false }
      end
    end
  end
end
