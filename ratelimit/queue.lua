-- How a subject is kept: the instants at which it was admitted, oldest first, each 5 bytes
-- little-endian of its milliseconds modulo 2^40, which is 34 years. The oldest and the newest
-- stand in the subject's key; what is between them, once there are more than 16, in chunks of 8
-- in the ring beside it.
--
-- key       version (1 byte): 2, or 3 where there are windows in sub-buckets, see large.lua; the
--           second at which it expires (4); the number of stamps before the ring, 0 where that is
--           empty (1); the number of chunks in the ring (2), which is the first of them (2), and for
--           how many there is room (2); then the stamps before the ring and those behind it
-- key:r     the ring
--
-- Who includes this has call, field and pack, and now.
local HEAD, CHUNK, HALF, WHOLE = 12, 40, 549755813888, 1099511627776
local LONGEST = 64000000000 -- twice the longest window: no key is kept for so long, in milliseconds

-- elsewhere is for one of a subject's keys that is not there. While their slot is on its way from one
-- node of a cluster to another it need not be lost: Redis looks at no two keys of which it has one,
-- and refuses, so that nothing is begun anew that comes behind.
local function elsewhere(key, other) call('EXISTS', key, other) end

local function instant(bytes, i)
  return now + (field('<I5', bytes, 5 * i + 1) - now + HALF) % WHOLE - HALF
end

-- open reads a value. What is not of this version, or cannot be, is empty.
local function open(key, s)
  local q = { key = key, ring = key .. ':r', version = 2, till = 0, front = 0, middle = 0, head = 0, room = 0, body = '', chunks = {} }
  if s and #s >= HEAD + 5 and (#s - HEAD) % 5 == 0 then
    local version, till, front, middle, head, room = field('<BI4BI2I2I2', s)
    local body = string.sub(s, HEAD + 1)
    if (version == 2 or version == 3) and middle <= room and (room == 0 or head < room)
        and (middle == 0 or front > 0) and 5 * front <= #body and instant(body, #body / 5 - 1) <= till * 1000
        and till * 1000 <= now + LONGEST then
      q.version, q.till, q.front, q.middle, q.head, q.room, q.body = version, till, front, middle, head, room, body
    end
  end
  return q
end

local function gone(q)
  elsewhere(q.key, q.ring)
  error('corrupt: a ring is gone')
end

local function length(q) return #q.body / 5 + 8 * q.middle end

local function chunk(q, i)
  if not q.chunks[i] then
    local from = CHUNK * ((q.head + i) % q.room)
    local bytes = call('GETRANGE', q.ring, from, from + CHUNK - 1)
    if #bytes ~= CHUNK then gone(q) end
    q.chunks[i] = bytes
  end
  return q.chunks[i]
end

-- at is the i-th oldest instant, from 0.
local function at(q, i)
  if q.middle == 0 or i < q.front then return instant(q.body, i) end
  local behind = i - q.front
  if behind >= 8 * q.middle then return instant(q.body, i - 8 * q.middle) end
  return instant(chunk(q, math.floor(behind / 8)), behind % 8)
end

-- expired is how many instants are at or before edge: gallop, then halve.
local function expired(q, edge)
  local n = length(q)
  if n == 0 or at(q, 0) > edge then return 0 end
  local low, high = 0, 1
  while high < n and at(q, high) <= edge do low, high = high, high * 2 end
  if high > n then high = n end
  while low + 1 < high do
    local mid = math.floor((low + high) / 2)
    if at(q, mid) <= edge then low = mid else high = mid end
  end
  return high
end

-- all gives every instant.
local function all(q)
  local list = {}
  for i = 0, length(q) - 1 do list[i + 1] = at(q, i) end
  return list
end

local function drop(q, n)
  if q.middle > 0 and n >= q.front then
    q.body, n = string.sub(q.body, 5 * q.front + 1), n - q.front
    local chunks = math.min(math.floor(n / 8), q.middle)
    n = n - 8 * chunks
    if chunks < q.middle then
      q.body, q.front, chunks = chunk(q, chunks) .. q.body, 8, chunks + 1
    end
    q.head, q.middle, q.chunks = (q.head + chunks) % q.room, q.middle - chunks, {}
  end
  q.body = string.sub(q.body, 5 * n + 1)
  q.front = q.middle > 0 and q.front - n or 0
end

-- keep makes the subject last for some milliseconds from now on, and a minute longer, so that
-- clocks set back by less change nothing. It is done ahead, and so not often.
local function keep(q, ms)
  if q.till * 1000 >= now + ms + 60000 then return end
  q.till = math.ceil((now + ms + 75000) / 1000)
  if q.room > 0 then call('PEXPIRE', q.ring, q.till * 1000 - now) end
end

-- push adds an instant, which is not before any other. The subject is kept long enough already.
local function push(q, t)
  while #q.body >= 80 do
    if q.middle == q.room then
      local ring = q.room > 0 and call('GETRANGE', q.ring, 0, -1) or ''
      if #ring ~= CHUNK * q.room then gone(q) end
      ring = string.sub(ring, CHUNK * q.head + 1) .. string.sub(ring, 1, CHUNK * q.head)
      q.head, q.room, q.chunks = 0, q.room + math.max(4, math.floor(q.room / 8)), {}
      call('SET', q.ring, ring .. string.rep('\0', CHUNK * q.room - #ring), 'PX', q.till * 1000 - now)
    end
    if q.middle == 0 then q.front = 8 end
    local first = 5 * q.front
    if call('STRLEN', q.ring) ~= CHUNK * q.room then gone(q) end
    call('SETRANGE', q.ring, CHUNK * ((q.head + q.middle) % q.room), string.sub(q.body, first + 1, first + CHUNK))
    q.body, q.middle, q.chunks = string.sub(q.body, 1, first) .. string.sub(q.body, first + CHUNK + 1), q.middle + 1, {}
  end
  q.body = q.body .. pack('<I5', t)
end

-- refill replaces the instants.
local function refill(q, list)
  call('DEL', q.ring)
  q.front, q.middle, q.head, q.room, q.body, q.chunks = 0, 0, 0, 0, '', {}
  for _, t in ipairs(list) do push(q, t) end
end

-- close gives the value to keep, nil if nothing is left.
local function close(q)
  if q.body == '' then return nil end
  return pack('<BI4BI2I2I2', q.version, q.till, q.front, q.middle, q.head, q.room) .. q.body
end
