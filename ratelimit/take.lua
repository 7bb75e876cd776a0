-- Decide on one or more requests, one after another: sliding windows, all subjects of a
-- request or none. queue.lua says how a subject is kept.
--
-- KEYS     the subjects, each once
-- ARGV[1]  packed, little-endian: up to how many requests a limit is exact (4 bytes); the number
--          of shapes (1), and for each the number of its limits (1) and their requests (4) and
--          windows in milliseconds (6); then for each decision 1 to count the request and 0 to
--          only look (1), the number of its subjects (1), and for each of these which of KEYS it
--          is (1) and its shape (1)
-- ARGV[2]  in tests, the instant of each decision in milliseconds (6); otherwise not there, and
--          the server's clock counts
-- Returns  packed: the instant (6), then for each decision 1 for admitted or 0 (1), and for each
--          subject how many requests count (4) and the reset (6); where a shape has several
--          limits, before these the number of the one that speaks (1), and after them how many
--          requests count for each (4)
local call, field, pack, sub = redis.call, struct.unpack, struct.pack, string.sub
local args, given = ARGV[1], ARGV[2]
local now, stamp -- the instant, and the instant as it is kept
if not given then
  local t = call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
  stamp = pack('<I5', now)
end

-- What is kept of each subject, and what is to be written when all is decided: a whole value
-- and for how many milliseconds, or only a stamp behind the value.
local values, lasts, behind = call('MGET', unpack(KEYS)), {}, {}

local exact, shapes, pos = field('<I4B', args)
local limits, windows, shape_at = {}, {}, {}
for i = 1, shapes do
  local n, limit, window = field('<BI4I6', args, pos)
  shape_at[i] = pos
  limits[i], windows[i] = n == 1 and limit <= exact and limit, window
  pos = pos + 1 + 10 * n
end

-- value is a subject's value with what was counted so far.
local function value(k)
  local s = values[k]
  if behind[k] then
    local _, till = field('<BI4', s)
    s = s .. behind[k]
    values[k], lasts[k], behind[k] = s, till * 1000 - now, nil
  end
  return s
end

-- look says how a subject of one exact limit stands: how many requests count, its reset, and how
-- many stamps do not count any more. It says nothing where that takes more than a look.
local function look(s, limit, window)
  if not s then return 0, now, 0 end
  local length = #s
  if length < 17 then return end
  local version, _, front, middle, _, _, first = field('<BI4BI2I2I2I5', s)
  if version ~= 2 then return end
  -- Instants are kept modulo 2^40 milliseconds, and are within half of that from now.
  if (field('<I5', s, length - 4) - now + 549755813888) % 1099511627776 > 549755813888 then return end
  local edge, gone = now - window, 0
  local oldest = now + (first - now + 549755813888) % 1099511627776 - 549755813888
  local count = (length - 12) / 5
  if oldest <= edge then
    if middle == 0 then front = count end
    repeat
      gone = gone + 1
      if gone == front then break end
      oldest = now + (field('<I5', s, 13 + 5 * gone) - now + 549755813888) % 1099511627776 - 549755813888
    until oldest > edge
    if gone == front and middle > 0 then return end
  end
  count = count + 8 * middle - gone
  if count > limit then return end
  return count, count > 0 and oldest + window or now, gone
end

-- rewrite counts a request and drops the stamps that are gone, where there is room for it.
local function rewrite(k, s, gone, window)
  local version, till, front, middle, head, room, body = 2, 0, 0, 0, 0, 0, ''
  if s then
    version, till, front, middle, head, room = field('<BI4BI2I2I2', s)
    body = sub(s, 13 + 5 * gone)
    if middle > 0 then front = front - gone end
  end
  if #body >= 80 then
    if middle == room then return false end
    if middle == 0 then front = 8 end
    local full = redis.pcall('SETRANGE', KEYS[k] .. ':r', 40 * ((head + middle) % room), sub(body, 5 * front + 1, 5 * front + 40))
    if type(full) == 'table' then return false end
    body, middle = sub(body, 1, 5 * front) .. sub(body, 5 * front + 41), middle + 1
  end
  if till * 1000 < now + window + 60000 then
    till = math.ceil((now + window + 75000) / 1000)
    if room > 0 then call('PEXPIRE', KEYS[k] .. ':r', till * 1000 - now) end
  end
  values[k], lasts[k] = pack('<BI4BI2I2I2c0I5', version, till, front, middle, head, room, body, now), till * 1000 - now
  return true
end

-- count counts a request of a subject that was looked at.
local function count(k, s, gone, window)
  if s and gone < 4 and #s < 92 then
    local _, till = field('<BI4', s)
    if till * 1000 >= now + window + 60000 then
      if lasts[k] then values[k] = s .. stamp else behind[k] = stamp end
      return true
    end
  end
  return rewrite(k, s, gone, window)
end

-- carefully makes what decides on everything else.
local function carefully()
  --include queue.lua
  --include large.lua
  return decide
end
local decide

local out, o, size = {}, 1, #args
while pos <= size do
  if given then
    now = field('<I6', given, 6 * o - 5)
    stamp = pack('<I5', now)
  end
  local take, n, k1, i1, k2, i2 = string.byte(args, pos, pos + 5)
  local reply
  local l1, w1 = limits[i1], windows[i1]
  if n == 2 and l1 and limits[i2] then
    local l2, w2 = limits[i2], windows[i2]
    local s1, s2 = value(k1), value(k2)
    local n1, r1, g1 = look(s1, l1, w1)
    local n2, r2, g2 = look(s2, l2, w2)
    if not n1 or not n2 then
      -- below
    elseif n1 >= l1 or n2 >= l2 then
      reply = pack('<BI4I6I4I6', 0, n1, r1, n2, r2)
    elseif take == 0 then
      reply = pack('<BI4I6I4I6', 1, n1, r1, n2, r2)
    elseif count(k1, s1, g1, w1) then
      if not count(k2, s2, g2, w2) then
        decide = decide or carefully()
        decide(true, { { k2, i2 } }) -- for which there is room
      end
      if n1 == 0 then r1 = now + w1 end
      if n2 == 0 then r2 = now + w2 end
      reply = pack('<BI4I6I4I6', 1, n1 + 1, r1, n2 + 1, r2)
    end
  elseif n == 1 and l1 then
    local s1 = value(k1)
    local n1, r1, g1 = look(s1, l1, w1)
    if not n1 then
      -- below
    elseif n1 >= l1 then
      reply = pack('<BI4I6', 0, n1, r1)
    elseif take == 0 then
      reply = pack('<BI4I6', 1, n1, r1)
    elseif count(k1, s1, g1, w1) then
      if n1 == 0 then r1 = now + w1 end
      reply = pack('<BI4I6', 1, n1 + 1, r1)
    end
  end
  if not reply then
    local subjects = {}
    for i = 1, n do subjects[i] = { string.byte(args, pos + 2 * i, pos + 2 * i + 1) } end
    decide = decide or carefully()
    reply = decide(take == 1, subjects)
  end
  o = o + 1
  out[o] = reply
  pos = pos + 2 + 2 * n
end

for k = 1, #KEYS do
  if behind[k] then
    call('APPEND', KEYS[k], behind[k])
  elseif lasts[k] then
    call('SET', KEYS[k], values[k], 'PX', lasts[k])
  end
end
out[1] = pack('<I6', now)
return table.concat(out)
