-- One decision: sliding windows over lists of instants, all subjects or none.
--
-- KEYS     two for each subject: the list of the milliseconds at which it was admitted,
--          oldest first; and, where it has or had large limits, a hash of the windows that
--          are counted in sub-buckets and when a limit last asked for them, beside which
--          the key with the window appended is the list of that window's sub-buckets
-- ARGV     "take" or "peek"; the instant in milliseconds, or "" for the server's clock; up
--          to how many requests a limit is exact; then for each subject the number of its
--          limits and for each limit its requests and its window in milliseconds
-- Returns  admitted (1 or 0), the instant, then for each subject the number of the limit
--          that speaks, how many requests it counts, and its reset; then for each limit of
--          each subject how many requests it counts
local now = tonumber(ARGV[2])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local exact = tonumber(ARGV[3])
local grace = 60000 -- keys are kept longer, so that clocks set back by less change nothing

local function text(n) return string.format('%.0f', n) end
local function at(key, i) return tonumber(redis.call('LINDEX', key, i)) end

-- expired is how many of the n instants are at or before edge: gallop, then halve. An
-- instant is every step-th element.
local function expired(key, n, edge, step)
  if n == 0 or at(key, 0) > edge then return 0 end
  local low, high = 0, 1
  while high < n and at(key, high * step) <= edge do low, high = high, high * 2 end
  if high > n then high = n end
  while low + 1 < high do
    local mid = math.floor((low + high) / 2)
    if at(key, mid * step) <= edge then low = mid else high = mid end
  end
  return high
end

-- Nearly every decision is on subjects of one limit each that is and was exact. What follows
-- below decides on them too, in three times the time.
local n = #KEYS / 2
local simple = #ARGV == 3 + 3 * n
for i = 1, n do simple = simple and tonumber(ARGV[3 * i + 2]) <= exact end
if simple then
  local large = {}
  for i = 1, n do large[i] = KEYS[2 * i] end
  simple = redis.call('EXISTS', unpack(large)) == 0
end
if simple then
  local reply, counts, gone, tail, admitted = { 1, now }, {}, {}, {}, true
  for i = 1, n do
    local key, limit, window = KEYS[2 * i - 1], tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
    local count, reset = redis.call('LLEN', key), now
    gone[i], tail[i] = 0, -1
    if count > 0 then
      tail[i] = at(key, -1)
      local t, oldest = math.max(now, tail[i]), at(key, 0)
      if oldest <= t - window then
        gone[i] = expired(key, count, t - window, 1)
        oldest, count = gone[i] < count and at(key, gone[i]), count - gone[i]
      end
      if count > limit then oldest = at(key, -limit) end -- the limit was lowered
      if count > 0 then reset = oldest + window end
      if count >= limit then admitted = false end
    end
    counts[i], reply[3 * i], reply[3 * i + 1], reply[3 * i + 2] = count, 1, count, reset
  end
  if not admitted then
    reply[1] = 0
  elseif ARGV[1] == 'take' then
    for i = 1, n do
      local key, window = KEYS[2 * i - 1], tonumber(ARGV[3 * i + 3])
      local t = math.max(now, tail[i]) -- stamps stay sorted when the clock steps back
      redis.call('RPUSH', key, text(t))
      if gone[i] > 0 then redis.call('LTRIM', key, gone[i], -1) end
      -- Once a second is enough: the grace is a minute.
      if math.floor(t / 1000) ~= math.floor(tail[i] / 1000) or t > now then
        redis.call('PEXPIRE', key, text(window + t - now + grace))
      end
      if counts[i] == 0 then reply[3 * i + 2] = t + window end
      counts[i] = counts[i] + 1
      reply[3 * i + 1] = counts[i]
    end
  end
  for i = 1, n do reply[2 + 3 * n + i] = counts[i] end
  return reply
end

-- A sub-bucket is two elements: the instant of its last request, and how many requests were
-- ever counted up to then. Before the oldest that counts, one that does not is kept.
local function large_stand(key, t, limit, window)
  local n = redis.call('LLEN', key) / 2
  if n == 0 then return 0, now end
  local gone = expired(key, n, t - window, 2)
  local total = at(key, -1)
  local used = total - at(key, 2 * gone - 1)
  if used == 0 then return 0, now end
  while total - at(key, 2 * gone + 1) >= limit do gone = gone + 1 end
  return used, at(key, 2 * gone) + window
end

local function large_add(key, t, window, n)
  local width, total, last = math.floor((window + 255) / 256), at(key, -1) or 0, at(key, -2)
  if not last then redis.call('RPUSH', key, '0', '0') end
  if last and last > 0 and math.floor(last / width) == math.floor(t / width) then
    redis.call('LSET', key, -2, text(t))
    redis.call('LSET', key, -1, text(total + n))
    return
  end
  redis.call('RPUSH', key, text(t), text(total + n))
  local gone = expired(key, redis.call('LLEN', key) / 2, t - window, 2)
  if gone > 1 then redis.call('LTRIM', key, 2 * (gone - 1), -1) end
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

local function stand(s, limit, window)
  local from = source(s, limit, window)
  if from then return large_stand(s.large .. text(from), s.t, limit, window) end
  local gone = expired(s.key, s.n, s.t - window, 1)
  local used = s.n - gone
  if used >= limit then return used, at(s.key, -limit) + window end
  if used > 0 then return used, at(s.key, gone) + window end
  return 0, now
end

-- stamps_from replaces the stamps by the newest requests of a window, at most limit, each at
-- the last instant of its sub-bucket.
local function stamps_from(s, window, limit)
  local list = redis.call('LRANGE', s.large .. text(window), 0, -1)
  local skip = math.max(0, tonumber(list[#list]) - tonumber(list[2]) - limit)
  redis.call('DEL', s.key)
  for i = 3, #list, 2 do
    for _ = 1, list[i + 1] - list[i - 1] do
      if skip > 0 then skip = skip - 1 else redis.call('RPUSH', s.key, list[i]) end
    end
  end
  s.n = redis.call('LLEN', s.key)
end

-- admit_large counts the request in every window that is or recently was counted in
-- sub-buckets, makes those that are newly needed, and prepares the stamps.
local function admit_large(s)
  local asked, made = s.asked, {}
  for _, l in ipairs(s.limits) do
    local limit, window = l[1], l[2]
    if limit > exact and not asked[window] and not made[window] then
      local key, from = s.large .. text(window), source(s, limit, window)
      redis.call('DEL', key)
      if from then
        for _, v in ipairs(redis.call('LRANGE', s.large .. text(from), 0, -1)) do redis.call('RPUSH', key, v) end
      else
        for _, v in ipairs(redis.call('LRANGE', s.key, 0, -1)) do large_add(key, tonumber(v), window, 1) end
      end
      made[window] = true
    end
  end
  if s.limit > 0 and source(s, 1, s.window) then stamps_from(s, s.longest, s.limit) end
  for _, l in ipairs(s.limits) do
    if l[1] > exact then asked[l[2]] = s.t end
  end
  local kept = s.window
  for window, when in pairs(asked) do
    if s.t - when >= window and when ~= s.t then
      asked[window] = nil
      redis.call('DEL', s.large .. text(window))
      redis.call('HDEL', s.large, text(window))
    else
      kept = math.max(kept, window)
    end
  end
  s.longest = nil
  for window, when in pairs(asked) do
    large_add(s.large .. text(window), s.t, window, 1)
    redis.call('PEXPIRE', s.large .. text(window), text(kept + s.t - now + grace))
    redis.call('HSET', s.large, text(window), text(when))
    s.longest = math.max(s.longest or 0, window)
  end
  redis.call('HSET', s.large, 'stamps', text(s.window))
  redis.call('PEXPIRE', s.large, text(kept + s.t - now + grace))
  s.stamps = s.window
  return kept
end

-- Read everything first: nothing is written for a request that is denied.
local subjects, admitted, arg = {}, 1, 4
for i = 1, n do
  local key = KEYS[2 * i - 1]
  local s = { key = key, large = KEYS[2 * i], n = redis.call('LLEN', key), t = now, limits = {}, window = 0, limit = 0 }
  if s.n > 0 then s.t = math.max(now, at(key, -1)) end -- stamps stay sorted when the clock steps back
  if redis.call('EXISTS', s.large) == 1 then
    s.asked, s.stamps = {}, 0
    local all = redis.call('HGETALL', s.large)
    for f = 1, #all, 2 do
      local window, when = tonumber(all[f]), tonumber(all[f + 1])
      if window then
        s.asked[window], s.longest = when, math.max(s.longest or 0, window)
      else
        s.stamps = when
      end
    end
  end
  local any_large = false
  for j = 1, tonumber(ARGV[arg]) do
    local limit, window = tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
    arg = arg + 2
    s.limits[j] = { limit, window }
    if limit > exact then
      any_large = true
    else
      s.window, s.limit = math.max(s.window, window), math.max(s.limit, limit)
    end
    if source(s, limit, window) then
      if stand(s, limit, window) >= limit then admitted = 0 end
    elseif s.n >= limit and s.t - at(key, -limit) < window then
      admitted = 0
    end
  end
  arg = arg + 1
  if any_large and not s.asked then s.asked, s.stamps = {}, math.huge end
  subjects[i] = s
end

if ARGV[1] == 'take' and admitted == 1 then
  for _, s in ipairs(subjects) do
    local keep = s.window
    if s.asked then keep = admit_large(s) end
    -- RPUSH comes first: a server that may not write refuses it, and nothing has happened.
    redis.call('RPUSH', s.key, text(s.t))
    local gone = s.n
    if s.limit > 0 then gone = expired(s.key, s.n, s.t - s.window, 1) end
    if gone > 0 then redis.call('LTRIM', s.key, gone, -1) end
    s.n = s.n + 1 - gone
    redis.call('PEXPIRE', s.key, text(keep + s.t - now + grace))
  end
end

local reply, counts = { admitted, now }, {}
for _, s in ipairs(subjects) do
  local speaks, count, left, reset = nil, 0, 0, -1
  for j, l in ipairs(s.limits) do
    local used, free = stand(s, l[1], l[2])
    counts[#counts + 1] = used
    local remaining = math.max(0, l[1] - used)
    if not speaks or remaining < left or (remaining == left and free > reset) then
      speaks, count, left, reset = j, used, remaining, free
    end
  end
  reply[#reply + 1] = speaks
  reply[#reply + 1] = count
  reply[#reply + 1] = reset
end
for _, used in ipairs(counts) do reply[#reply + 1] = used end
return reply
