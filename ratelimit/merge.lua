-- Count what an instance admitted while Redis was away.
--
-- KEYS     the subject's, see queue.lua and large.lua
-- ARGV     an id: what has been merged under it is not merged again; for how many milliseconds a
--          request may count; the longest window that the stamps cover, 0 where they only tell
--          the time; how many stamps are kept at most; the number of stamps and the
--          stamps; then the number of windows counted in sub-buckets and for each its length,
--          the number of its sub-buckets, and for each of these the instant of its last request
--          and how many requests it counts
local call, field, pack = redis.call, struct.unpack, struct.pack
local key, large = KEYS[1], KEYS[1] .. ':w'
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

--include queue.lua

local counts, covers, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- Where only some of the keys are here, since their slot is on its way, nothing is merged yet.
local value = redis.pcall('GET', key)
local was = open(key, type(value) == 'string' and value)
if was.room > 0 then elsewhere(key, was.ring) end
if was.version == 3 then
  elsewhere(key, large)
  for _, window in ipairs(redis.pcall('HKEYS', large)) do
    if window ~= 'stamps' then elsewhere(key, large .. window) end
  end
end
if not call('SET', key .. ':m' .. ARGV[1], '1', 'NX', 'PX', 600000) then return 0 end
-- What has another type than ours is not ours.
for name, kind in pairs({ [key] = 'string', [key .. ':r'] = 'string', [large] = 'hash' }) do
  local is = call('TYPE', name).ok
  if is ~= kind and is ~= 'none' then call('DEL', name) end
end
local function text(n) return string.format('%.0f', n) end

local arg = 5
local function number()
  arg = arg + 1
  return tonumber(ARGV[arg - 1])
end

local stamps, windows = {}, {}
for _ = 1, number() do stamps[#stamps + 1] = math.min(now, number()) end
for _ = 1, number() do
  local window, runs = number(), {}
  for _ = 1, number() do
    local last, n = number(), number()
    runs[#runs + 1] = { math.min(now, last), n }
  end
  windows[window] = runs
end

-- What is there already.
local q = open(key, call('GET', key))
local known, there = {}, q.version == 3
local complete, list = pcall(all, q)
if not complete then list = {} end -- the ring is gone
local old_covers = there and tonumber(call('HGET', large, 'stamps') or '0') or #list > 0 and math.huge or nil
if not there then call('DEL', large) end
for _, window in ipairs(call('HKEYS', large)) do
  if tonumber(window) then known[tonumber(window)] = true end
end

-- Windows of sub-buckets: those that came, and those that are there for the stamps.
local singles = {}
for _, stamp in ipairs(stamps) do singles[#singles + 1] = { stamp, 1 } end
for window in pairs(known) do
  if not windows[window] then
    windows[window] = singles
    if covers == 0 then -- the stamps do not count: the longest window does
      local longest = 0
      for w in pairs(windows) do if w > longest and windows[w] ~= singles then longest = w end end
      windows[window] = windows[longest] or singles
    end
  end
end
for window, runs in pairs(windows) do
  local name, all = large .. text(window), {}
  local old = redis.pcall('LRANGE', name, 0, -1)
  for i = 3, #old, 2 do
    local last, total, before = tonumber(old[i]), tonumber(old[i + 1]), tonumber(old[i - 1])
    if last and total and before then all[#all + 1] = { last, total - before } end
  end
  for _, run in ipairs(runs) do all[#all + 1] = run end
  table.sort(all, function(a, b) return a[1] < b[1] end)
  local width, total = math.floor((window + 255) / 256), 0
  call('DEL', name)
  call('RPUSH', name, '0', '0')
  for i, run in ipairs(all) do
    local following = all[i + 1]
    total = total + run[2]
    if run[1] > now - window and (not following or math.floor(following[1] / width) ~= math.floor(run[1] / width)) then
      call('RPUSH', name, text(run[1]), text(total))
    elseif run[1] <= now - window then
      total = total - run[2]
    end
  end
  if not known[window] then call('HSET', large, text(window), text(now)) end
  if call('PTTL', name) < counts + 60000 then call('PEXPIRE', name, text(counts + 60000)) end
  there = true
end
if there and next(windows) then
  local both = covers
  if old_covers then both = math.min(old_covers, 9e15) end
  if call('HEXISTS', large, 'stamps') == 0 then call('HSET', large, 'stamps', text(both)) end
  if call('PTTL', large) < counts + 60000 then call('PEXPIRE', large, text(counts + 60000)) end
end

-- The stamps, unless all that is kept of them is the newest.
local stamps_all = list
for _, v in ipairs(stamps) do stamps_all[#stamps_all + 1] = v end
if #stamps_all > 0 then
  table.sort(stamps_all)
  local from = 1
  if (old_covers or covers) == 0 then from = #stamps_all end
  from = math.max(from, #stamps_all - math.max(most, length(q)) + 1)
  keep(q, counts)
  local kept = {}
  for i = from, #stamps_all do kept[#kept + 1] = stamps_all[i] end
  refill(q, kept)
  q.version = there and 3 or 2
  call('SET', key, close(q), 'PX', q.till * 1000 - now)
end
return 1
