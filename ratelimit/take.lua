-- Decide on one or more requests, one after another: sliding windows, all subjects of a
-- request or none. queue.lua says how a subject is kept.
--
-- KEYS     the subjects, each once
-- ARGV[1]  packed, little-endian: up to how many requests a limit is exact (4 bytes); then for
--          each decision 1 to count the request and 0 to only look (1), and 1 or 2 for as many
--          subjects of one exact limit each (1), for each of which there follow which of KEYS it is
--          (1), its requests (4) and its window in milliseconds (6); or 0 for other subjects (1),
--          their number (1), and for each which of KEYS it is (1), the number of its limits (1), and
--          their requests (4) and windows (6)
-- ARGV[2]  in tests, the instant of each decision in milliseconds (6); otherwise not there, and
--          the server's clock counts
-- Returns  packed: the instant (6), then for each decision 1 for admitted or 0 (1), and for each
--          subject how many requests count (4) and the reset (6); where it has several limits,
--          before these the number of the one that speaks (1), and after them how many requests
--          count for each (4)
local call, field, pack, sub = redis.call, struct.unpack, struct.pack, string.sub
local args, given = ARGV[1], ARGV[2]
local now, stamp -- the instant, and the instant as it is kept
if not given then
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
  stamp = pack('<I5', now)
end

-- What is kept of each subject, and what is to be written when all is decided: the whole value
-- and for how many milliseconds, or only a stamp behind the value.
local values, lasts, behind = call('MGET', unpack(KEYS)), {}, {}

-- settle puts what is to be written behind a value into it.
local function settle(k)
  local s = values[k]
  local _, till = field('<BI4', s)
  values[k], lasts[k], behind[k] = s .. behind[k], math.max(1000, till * 1000 - now), nil
end

-- look says how a subject of one exact limit stands: how many requests count, its reset, how many
-- stamps do not count any more, and the second at which it expires. It says nothing where that
-- takes more than a look.
local function look(s, limit, window)
  if not s then return 0, now, 0, 0 end
  local length = #s
  if length < 17 or length % 5 ~= 2 then return end
  local version, till, front, middle, _, _, first = field('<BI4BI2I2I2I5', s)
  if version ~= 2 or till * 1000 > now + 64000000000 then return end -- see queue.lua
  -- Instants are kept modulo 2^40 milliseconds, and are within half of that from now.
  if (field('<I5', s, length - 4) - now + 549755813888) % 1099511627776 > 549755813888 then return end
  local edge, gone, here = now - window, 0, (length - 12) / 5
  local count = here + 8 * middle
  local oldest = now + (first - now + 549755813888) % 1099511627776 - 549755813888
  if oldest <= edge then
    if middle > 0 then here = front end
    repeat
      gone = gone + 1
      if gone == here then break end
      oldest = now + (field('<I5', s, 13 + 5 * gone) - now + 549755813888) % 1099511627776 - 549755813888
    until oldest > edge
    if gone == here and middle > 0 then return end
    count = count - gone
  end
  if count > limit then return end
  return count, count > 0 and oldest + window or now, gone, till
end

-- count counts a request of a subject that was looked at, and drops the stamps that are gone. It
-- does neither, and says so, where that takes more than it has at hand.
local function count(k, gone, till, window)
  local s = values[k]
  local lasting = till * 1000 >= now + window + 60000
  if lasting and gone < 4 and #s < 92 then
    if lasts[k] then values[k] = s .. stamp else behind[k] = stamp end
    return true
  end
  local front, middle, head, room, body, _ = 0, 0, 0, 0, ''
  if s then
    _, _, front, middle, head, room = field('<BI4BI2I2I2', s)
    body = sub(s, 13 + 5 * gone)
    if middle > 0 then front = front - gone end
  end
  if #body >= 80 then
    if middle == room then return false end
    if middle == 0 then front = 8 end
    local from = 5 * front
    -- Written into a ring that is gone, the chunk would be a key without an expiry.
    if redis.pcall('STRLEN', KEYS[k] .. ':r') ~= 40 * room then return false end
    call('SETRANGE', KEYS[k] .. ':r', 40 * ((head + middle) % room), sub(body, from + 1, from + 40))
    body, middle = sub(body, 1, from) .. sub(body, from + 41), middle + 1
  end
  if not lasting then
    till = math.ceil((now + window + 75000) / 1000)
    if room > 0 then call('PEXPIRE', KEYS[k] .. ':r', till * 1000 - now) end
  end
  values[k], lasts[k] = pack('<BI4BI2I2I2c0I5', 2, till, front, middle, head, room, body, now), till * 1000 - now
  return true
end

-- carefully makes what decides on everything else.
local function carefully()
  --include queue.lua
  --include large.lua
  return decide
end
local decide

local reply, more, pos, size, o = nil, nil, 5, #args, 0
repeat
  if given then
    now = field('<I6', given, 6 * o + 1)
    stamp, o = pack('<I5', now), o + 1
  end
  local part
  local take, simple, k1, l1, w1, k2, l2, w2 = field('<BBBI4I6', args, pos)
  if simple == 2 then
    k2, l2, w2 = field('<BI4I6', args, pos + 13)
    if behind[k1] then settle(k1) end
    if behind[k2] then settle(k2) end
    local n1, r1, g1, t1 = look(values[k1], l1, w1)
    local n2, r2, g2, t2 = look(values[k2], l2, w2)
    if not n1 or not n2 then
      -- below
    elseif n1 >= l1 or n2 >= l2 then
      part = pack('<BI4I6I4I6', 0, n1, r1, n2, r2)
    elseif take == 0 then
      part = pack('<BI4I6I4I6', 1, n1, r1, n2, r2)
    elseif count(k1, g1, t1, w1) then
      if not count(k2, g2, t2, w2) then
        decide = decide or carefully()
        decide(true, { { k2, { { l2, w2 } } } }) -- for which there is room
      end
      if n1 == 0 then r1 = now + w1 end
      if n2 == 0 then r2 = now + w2 end
      part = pack('<BI4I6I4I6', 1, n1 + 1, r1, n2 + 1, r2)
    end
    if not part then
      decide = decide or carefully()
      part = decide(take == 1, { { k1, { { l1, w1 } } }, { k2, { { l2, w2 } } } })
    end
    pos = pos + 24
  elseif simple == 1 then
    if behind[k1] then settle(k1) end
    local n1, r1, g1, t1 = look(values[k1], l1, w1)
    if not n1 then
      -- below
    elseif n1 >= l1 then
      part = pack('<BI4I6', 0, n1, r1)
    elseif take == 0 then
      part = pack('<BI4I6', 1, n1, r1)
    elseif count(k1, g1, t1, w1) then
      if n1 == 0 then r1 = now + w1 end
      part = pack('<BI4I6', 1, n1 + 1, r1)
    end
    if not part then
      decide = decide or carefully()
      part = decide(take == 1, { { k1, { { l1, w1 } } } })
    end
    pos = pos + 13
  else
    local subjects, n = {}, k1
    pos = pos + 3
    for i = 1, n do
      local limits, k, m = {}, string.byte(args, pos, pos + 1)
      pos = pos + 2
      for j = 1, m do
        local limit, window = field('<I4I6', args, pos)
        limits[j], pos = { limit, window }, pos + 10
      end
      if behind[k] then settle(k) end
      subjects[i] = { k, limits }
    end
    decide = decide or carefully()
    part = decide(take == 1, subjects)
  end
  if not reply then
    reply = part
  else
    more = more or { reply }
    more[#more + 1] = part
  end
until pos > size

for k = 1, #KEYS do
  if behind[k] then
    call('APPEND', KEYS[k], behind[k])
  elseif lasts[k] then
    call('SET', KEYS[k], values[k], 'PX', lasts[k])
  end
end
return pack('<I6', now) .. (more and table.concat(more) or reply)
