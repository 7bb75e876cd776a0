-- One decision: exact sliding windows over lists of instants, all subjects or none.
--
-- KEYS[i]  the list of subject i: the milliseconds at which it was admitted, oldest first
-- ARGV     "take" or "peek"; the instant in milliseconds, or "" for the server's clock;
--          then for each subject the number of its limits and for each limit its requests
--          and its window in milliseconds
-- Returns  admitted (1 or 0), the instant, then for each subject the number of the limit
--          that speaks, how many requests it counts, and its reset
local now = tonumber(ARGV[2])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end

local function at(key, i) return tonumber(redis.call('LINDEX', key, i)) end

-- expired is how many of the n stamps are at or before edge: gallop, then halve.
local function expired(key, n, edge)
  if n == 0 or at(key, 0) > edge then return 0 end
  local low, high = 0, 1
  while high < n and at(key, high) <= edge do low, high = high, high * 2 end
  if high > n then high = n end
  while low + 1 < high do
    local mid = math.floor((low + high) / 2)
    if at(key, mid) <= edge then low = mid else high = mid end
  end
  return high
end

-- Read everything first: nothing is written for a request that is denied.
local subjects, admitted, arg = {}, 1, 3
for i, key in ipairs(KEYS) do
  local s = { n = redis.call('LLEN', key), t = now, limits = {}, window = 0 }
  if s.n > 0 then s.t = math.max(now, at(key, -1)) end -- stamps stay sorted when the clock steps back
  for j = 1, tonumber(ARGV[arg]) do
    local limit, window = tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
    arg = arg + 2
    s.limits[j] = { limit, window }
    s.window = math.max(s.window, window)
    if s.n >= limit and s.t - at(key, -limit) < window then admitted = 0 end
  end
  arg = arg + 1
  subjects[i] = s
end

if ARGV[1] == 'take' and admitted == 1 then
  for i, key in ipairs(KEYS) do
    local s = subjects[i]
    -- RPUSH comes first: a server that may not write refuses it, and nothing has happened.
    redis.call('RPUSH', key, string.format('%.0f', s.t))
    local gone = expired(key, s.n, s.t - s.window)
    if gone > 0 then redis.call('LTRIM', key, gone, -1) end
    s.n = s.n + 1 - gone
    -- A minute longer than anything counts, so that clocks set back by less change nothing.
    redis.call('PEXPIRE', key, string.format('%.0f', s.window + s.t - now + 60000))
  end
end

local reply = { admitted, now }
for i, key in ipairs(KEYS) do
  local s, speaks, count, left, reset = subjects[i], nil, 0, 0, -1
  for j, l in ipairs(s.limits) do
    local gone = expired(key, s.n, s.t - l[2])
    local used, free = s.n - gone, now
    local remaining = math.max(0, l[1] - used)
    if remaining == 0 then
      free = at(key, -l[1]) + l[2]
    elseif used > 0 then
      free = at(key, gone) + l[2]
    end
    if not speaks or remaining < left or (remaining == left and free > reset) then
      speaks, count, left, reset = j, used, remaining, free
    end
  end
  reply[#reply + 1] = speaks
  reply[#reply + 1] = count
  reply[#reply + 1] = reset
end
return reply
