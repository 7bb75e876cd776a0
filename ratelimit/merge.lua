-- Count what an instance admitted while Redis was away.
--
-- KEYS     the two of a subject, see take.lua
-- ARGV     an id: what has been merged under it is not merged again; for how many milliseconds a request may count; the longest window that the stamps
--          cover, 0 where they only tell the time; up to how many requests a limit is exact;
--          the number of stamps and the stamps; then the number of windows counted in
--          sub-buckets and for each its length, the number of its sub-buckets, and for each
--          of these the instant of its last request and how many requests it counts
local key, large = KEYS[1], KEYS[2]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local keep, covers, exact = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if not redis.call('SET', large .. 'merged:' .. ARGV[1], '1', 'NX', 'PX', 600000) then return 0 end
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
local known, there = {}, redis.call('EXISTS', large) == 1
local list = redis.call('LRANGE', key, 0, -1)
local old_covers = there and tonumber(redis.call('HGET', large, 'stamps') or '0') or #list > 0 and math.huge or nil
for _, field in ipairs(redis.call('HKEYS', large)) do
  if field ~= 'stamps' then known[tonumber(field)] = true end
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
  local old = redis.call('LRANGE', name, 0, -1)
  for i = 3, #old, 2 do all[#all + 1] = { tonumber(old[i]), old[i + 1] - old[i - 1] } end
  for _, run in ipairs(runs) do all[#all + 1] = run end
  table.sort(all, function(a, b) return a[1] < b[1] end)
  local width, total = math.floor((window + 255) / 256), 0
  redis.call('DEL', name)
  redis.call('RPUSH', name, '0', '0')
  for i, run in ipairs(all) do
    local following = all[i + 1]
    total = total + run[2]
    if run[1] > now - window and (not following or math.floor(following[1] / width) ~= math.floor(run[1] / width)) then
      redis.call('RPUSH', name, text(run[1]), text(total))
    elseif run[1] <= now - window then
      total = total - run[2]
    end
  end
  if not known[window] then redis.call('HSET', large, text(window), text(now)) end
  if redis.call('PTTL', name) < keep + 60000 then redis.call('PEXPIRE', name, text(keep + 60000)) end
  there = true
end
if there and next(windows) then
  local both = covers
  if old_covers then both = math.min(old_covers, 9e15) end
  if redis.call('HEXISTS', large, 'stamps') == 0 then redis.call('HSET', large, 'stamps', text(both)) end
  if redis.call('PTTL', large) < keep + 60000 then redis.call('PEXPIRE', large, text(keep + 60000)) end
end

-- The stamps, unless all that is kept of them is the newest.
local all = {}
for _, v in ipairs(list) do all[#all + 1] = tonumber(v) end
for _, v in ipairs(stamps) do all[#all + 1] = v end
if #all > 0 then
  local ttl = redis.call('PTTL', key)
  table.sort(all)
  local from = 1
  if (old_covers or covers) == 0 then from = #all end
  from = math.max(from, #all - math.max(exact, #list) + 1)
  redis.call('DEL', key)
  for i = from, #all do redis.call('RPUSH', key, text(all[i])) end
  redis.call('PEXPIRE', key, text(math.max(ttl, keep + 60000)))
end
return 1
