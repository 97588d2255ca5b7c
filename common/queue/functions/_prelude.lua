-- What the verbs share. One library, put together in the order: this file, the verbs, _register.lua; C puts a
-- few constants in front (queue_functions.c). Every verb is one atomic step: it reads and checks everything, then
-- writes what cannot fail. Large bodies never pass through here, except results that
-- are committed.
--
-- Numbers that are arguments of commands are written as strings where they are constant: Redis formats each Lua number
-- anew, which costs more than many a command.
--
-- KEYS are the clocks "{s}:ck" of the shards a call touches; all other keys are built from their prefix "{s}:".
-- Layout: docs/redis-keys.md. Record header and ticket: common/job/job_codec.h (offsets there from 0, here from 1).

-- While a library is loaded nothing exists but redis.register_function: _register.lua sets these when a verb runs.
local call, pack, unpack_bytes, band, bor, sub, byte, char, floor, min, max

local verbs, verb_flags = {}, {}
local take_standing, start_new, hand -- claim.lua, for submit

local HEADER = 92 -- bytes of the fixed header
local READ, HEADER_LAST = '99', '91' -- last bytes, from 0: of header and home, of the header alone
local PIECES, FOLLOWED, SUSPECT, FORGOTTEN, HOME = 1, 2, 4, 8, 16
local POISON, CANCELLED, EXPIRED = 1, 2, 3 -- verdicts
-- Where the priority bands of a ring begin and end.
local BAND_FROM, BAND_TO = {[0] = '0', '1e15', '2e15'}, {[0] = '(1e15', '(2e15', '+inf'}
local QUANTUM = 8  -- tickets a lane gives before the next has its turn
local LOW_SHARE = 19 -- claims of better bands after which the low band gets one
local NO_TOKEN = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
-- schema, state, flags, claim, attempt, crashes, sequence, token, started, due: from byte 2
local MUTABLE = '<Bc1BI2BBI4c16I6I6'
-- what a change of state writes, from byte 3 (offset 2)
local CHANGE = '<c1BI2BBI4'

local STANDING = '{0}:st:' -- and the id of a child: its standing claim, see claim.lua
local IDLE, LIVE_ROUTES, LAST_SWEEP, SUSPECT_SHARDS = '{0}:idle', '{0}:rl', '{0}:sw', '{0}:sp'

local function now_ms()
  local time = call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)
end

-- A whole number as the argument of a command: Redis would print it with 17 digits' care.
local function text_of(number)
  return string.format('%.0f', number)
end

-- The clock of leases: follows Redis' clock, but never back and never more than 3 s a call, so that neither a
-- jump nor an outage lets leases lapse.
local function logical_ms(p, raw)
  local stored = call('GET', p .. 'ck')
  local logical = raw
  if stored then
    local last
    last, logical = unpack_bytes('<I8I8', stored)
    if last == raw then return logical end
    logical = logical + max(0, min(3000, raw - last))
  end
  call('SET', p .. 'ck', pack('<I8I8', raw, logical))
  return logical
end

-- A packed id begins with 10 bits of shard and 42 of time in ms; its first six bytes are the shard and the slot of
-- 16 ms the time lies in. The lists of ids are in order of slots.
local SLOT_MS, HOUR_MS = 16, 3600000

local function slot_of(packed)
  return unpack_bytes('>I6', packed) % 2 ^ 38
end

local function slot_bytes(shard, slot)
  return pack('>I6', shard * 2 ^ 38 + min(slot, 2 ^ 38 - 1))
end

-- The minute in which the last of the usual deadlines of a slot lies; when to look at an index list whose next id is of
-- this time: a minute before, as all deadlines.
local function last_minute(at_ms)
  return floor((at_ms + SLOT_MS - 1 + USUAL_DEADLINE_MS) / 60000)
end

local function look_at(at_ms)
  return (last_minute(at_ms) - 1) * 60000
end

-- Two characters of an id for each ten bits, made when first needed.
local ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'
local pairs_of_bits

local function id_of(packed)
  if not pairs_of_bits then
    pairs_of_bits = {}
    for bits = 0, 1023 do
      local high, low = floor(bits / 32) + 1, bits % 32 + 1
      pairs_of_bits[bits] = sub(ALPHABET, high, high) .. sub(ALPHABET, low, low)
    end
  end
  local parts = {}
  for at = 1, 16, 5 do
    local bits = unpack_bytes('>I5', packed, at)
    for shift = 30, 0, -10 do parts[#parts + 1] = pairs_of_bits[floor(bits / 2 ^ shift) % 1024] end
  end
  parts[17] = pairs_of_bits[floor(unpack_bytes('>I2', packed, 21) / 64)]
  return table.concat(parts)
end

-- Prefix "{s}:" of the shard that an id names by its first two characters; remembered between calls.
local prefix_by_code = {}

local function prefix_of(code)
  local p = prefix_by_code[code]
  if not p then
    local high, low = string.find(ALPHABET, sub(code, 1, 1), 1, true), string.find(ALPHABET, sub(code, 2, 2), 1, true)
    p = '{' .. (high - 1) * 32 + low - 1 .. '}:'
    prefix_by_code[code] = p
  end
  return p
end

local prefix_by_key, offered_by_prefix = {}, {}

local function prefixes(keys)
  local list = {}
  for i = 1, #keys do
    local p = prefix_by_key[keys[i]]
    if not p then
      p = sub(keys[i], 1, -3)
      prefix_by_key[keys[i]], offered_by_prefix[p] = p, p .. 'A'
    end
    list[i] = p
  end
  return list
end

-- The beginning of a record, up to a byte; nothing where there is none, or where somebody put something else: one such
-- key must not break what is done for others. Whatever else is wrong is an error as ever.
local function read_record(key, last)
  local h = redis.pcall('GETRANGE', key, '0', last)
  if type(h) == 'string' then return h end
  if not string.find(h.err, 'WRONGTYPE', 1, true) then error(h) end
  return ''
end

-- h: a whole header
local function head_size(h)
  local meta, route = unpack_bytes('<I2I2', h, 69)
  return HEADER + meta + route + (band(byte(h, 4), HOME) ~= 0 and 8 or 0)
end

local function live_bytes(h)
  local payload, meta, route = unpack_bytes('<I4I2I2', h, 65)
  return HEADER + payload + meta + route
end

local function route_of(record)
  local from = HEADER + 1 + (band(byte(record, 4), HOME) ~= 0 and 8 or 0)
  return sub(record, from, from + unpack_bytes('<I2', record, 71) - 1)
end

-- A record that this build can read.
local function is_record(h)
  return #h >= HEADER and byte(h, 1) == 80 and byte(h, 2) <= JOB_SCHEMA
end

-- A record that a newer version wrote: whatever waits for it is left to newer processes.
local function is_newer(h)
  return #h >= HEADER and byte(h, 1) == 80 and byte(h, 2) > JOB_SCHEMA
end

local function ticket_of(id, h, claim)
  return '1' .. id .. sub(h, 42, 48) .. sub(h, 89, 92) .. pack('<I2', claim)
end

local function lane_of(h)
  return sub(h, 42, 48)
end

-- What a call changes of the totals of a shard, written at its end: live jobs and bytes by tenant, ends by route. The
-- names of the keys are made then, once, not for each job.
local function sums_of(sums, p)
  local shard = sums[p]
  if not shard then
    shard = {jobs = {}, bytes = {}, routes = {}}
    sums[p] = shard
  end
  return shard
end

local function add_live(sums, p, tenant, jobs, bytes)
  local shard = sums_of(sums, p)
  shard.jobs[tenant] = (shard.jobs[tenant] or 0) + jobs
  shard.bytes[tenant] = (shard.bytes[tenant] or 0) + bytes
end

local function add_total(sums, p, route, field, amount)
  local shard = sums_of(sums, p)
  local fields = shard.routes[route]
  if not fields then
    fields = {}
    shard.routes[route] = fields
  end
  fields[field] = (fields[field] or 0) + amount
end

local function write_live(hash, letter, amounts)
  local all = 0
  for tenant, amount in pairs(amounts) do
    all = all + amount
    call('HINCRBY', hash, letter .. tenant, text_of(amount))
  end
  if all ~= 0 then call('HINCRBY', hash, letter, text_of(all)) end
end

local function write_sums(sums)
  for p, shard in pairs(sums) do
    write_live(p .. 'n', 'j', shard.jobs)
    write_live(p .. 'n', 'b', shard.bytes)
    for route, fields in pairs(shard.routes) do
      for field, amount in pairs(fields) do call('HINCRBY', p .. 'c:' .. route, field, text_of(amount)) end
    end
  end
end

-- Tells the broker that holds the job open and all followers. record: whole, or at least its head; large ones are
-- announced by their head alone. sequence: of the change.
local function tell(p, id, flags, sequence, record)
  if #record > LIMIT_PUBLISH_BYTES then record = sub(record, 1, head_size(record)) end
  local home = band(flags, HOME) ~= 0 and sub(record, HEADER + 1, HEADER + 8)
  if home then call('PUBLISH', 'pk:b:' .. home, id .. record) end
  if band(flags, FOLLOWED) == 0 then return end
  for _, broker in ipairs(call('SMEMBERS', p .. 'f:' .. id)) do
    if broker ~= home then call('PUBLISH', 'pk:b:' .. broker, id .. record) end
  end
  local history = p .. 'o:' .. id
  redis.pcall('XADD', history, 'MAXLEN', HISTORY_ENTRIES, sequence .. '-0', 'r', record)
  call('PEXPIRE', history, HISTORY_MS)
end

-- After a change in place: only followers hear of it, the broker that holds the job open waits for its end.
local function tell_change(p, id, flags, sequence)
  if band(flags, FOLLOWED) == 0 then return end
  local key = p .. 'j:' .. id
  local h = call('GETRANGE', key, '0', LIMIT_HEAD_READ - 1)
  local size = head_size(h)
  if size > #h then h = call('GETRANGE', key, '0', size - 1) end
  tell(p, id, flags, sequence, sub(h, 1, size))
end

-- Wakes one idle child that went idle before `stamp` (nil: any). The child idle for longest comes first, so that a
-- wake which reaches a child that cannot serve the route is handed on to each of the others once. p: where something
-- waits (nil: anywhere); its claim looks there first.
local function wake(stamp, p)
  local message = p and 'w' .. pack('<I2', tonumber(sub(p, 2, -3))) or 'w'
  for _ = 1, 8 do
    local first = call('ZRANGE', IDLE, '0', '0', 'WITHSCORES')
    if not first[1] or (stamp and tonumber(first[2]) > stamp) then return end
    call('ZREM', IDLE, first[1])
    if call('PUBLISH', 'pk:c:' .. first[1], message) > 0 then return end
  end
end

-- Takes a route out of what is waiting in this shard.
local function retire_route(p, route)
  call('ZREM', p .. 'A', route)
  if call('HINCRBY', LIVE_ROUTES, route, '-1') <= 0 then call('HDEL', LIVE_ROUTES, route) end
end

-- Puts tickets into a lane (priority and tenant) of a route. A lane that was empty joins its band at the lowest
-- score there: waiting for nothing earns no credit.
local function push(p, route, lane, tickets, to_front)
  local ring = p .. 'R:' .. route
  call(to_front and 'LPUSH' or 'RPUSH', p .. 'q:' .. route .. ':' .. lane, unpack(tickets))
  if call('ZSCORE', ring, lane) then return end
  local priority = byte(lane) - 48
  local first = call('ZRANGEBYSCORE', ring, BAND_FROM[priority], BAND_TO[priority], 'WITHSCORES', 'LIMIT', '0', '1')
  call('ZADD', ring, first[2] or BAND_FROM[priority], lane)
  if call('ZCARD', ring) == 1 then call('HINCRBY', LIVE_ROUTES, route, '1') end
  if call('SISMEMBER', p .. 'Z', route) == 0 then call('ZADD', p .. 'A', 'LT', priority, route) end
end

-- The record as it was before its job ended, with the request body, stands aside for as long as a result would be kept:
-- whoever retries the job needs it. Renamed, not copied, so the body does not pass through here.
local function keep_request(p, id, h)
  local kept, ttl_ms = p .. 'p:' .. id, unpack_bytes('<I4', h, 73) * 1000
  call('RENAME', p .. 'j:' .. id, kept)
  call('PEXPIRE', kept, ttl_ms)
  if band(byte(h, 4), PIECES) ~= 0 then
    for n = 0, unpack_bytes('<I2', h, 63) - 1 do call('PEXPIRE', p .. 'b:' .. id .. ':' .. n, ttl_ms) end
  end
end

local function drop_request(p, id)
  local kept = p .. 'p:' .. id
  local h = read_record(kept, READ)
  if not is_record(h) then return end
  if band(byte(h, 4), PIECES) ~= 0 then
    for n = 0, unpack_bytes('<I2', h, 63) - 1 do call('UNLINK', p .. 'b:' .. id .. ':' .. n) end
  end
  call('UNLINK', kept)
end

-- Ends a job that no worker holds any more: the record keeps its head, loses its payload and gets a time to live.
-- Returns the new record.
local function end_job(p, id, h, state, verdict, raw, sums)
  local key = p .. 'j:' .. id
  local _, _, flags, claim, attempt, crashes, sequence = unpack_bytes(MUTABLE, h, 2)
  local head = call('GETRANGE', key, '0', head_size(h) - 1)
  local ttl_ms = (unpack_bytes('<I4', h, 73) + LIMIT_RECORD_AFTER_RESULT_S) * 1000
  if band(flags, PIECES) ~= 0 then flags = flags - PIECES end
  sequence = sequence + 1
  local record = sub(head, 1, 2) .. pack(CHANGE, state, flags, claim, attempt, crashes, sequence) .. sub(head, 13, 34) ..
    pack('<I6B', raw, verdict) .. sub(head, 42, 62) .. '\0\0\0\0\0\0' .. sub(head, 69, 84) .. '\0\0\0\0' .. sub(head, 89)
  keep_request(p, id, h)
  call('SET', key, record, 'PX', ttl_ms)
  if attempt > 0 then call('PEXPIRE', p .. 't:' .. id, ttl_ms) end
  add_live(sums, p, sub(h, 43, 48), -1, -live_bytes(h))
  add_total(sums, p, route_of(record), state == 'C' and 'cancelled' or state == 'E' and 'expired' or 'failed', 1)
  tell(p, id, flags, sequence, record)
  return record
end

-- The route of a job whose header alone is at hand.
local function stored_route(p, id, h)
  local from = HEADER + (band(byte(h, 4), HOME) ~= 0 and 8 or 0)
  return call('GETRANGE', p .. 'j:' .. id, from, from + unpack_bytes('<I2', h, 71) - 1)
end

-- Writes state and counters in place; the rest of the record stays.
local function change(p, id, state, flags, claim, attempt, crashes, sequence)
  call('SETRANGE', p .. 'j:' .. id, '2', pack(CHANGE, state, flags, claim, attempt, crashes, sequence))
end

-- queued, scheduled or running -> queued. h: the header as it is now.
local function requeue(p, id, h, changes)
  local _, _, flags, claim, attempt, crashes, sequence = unpack_bytes(MUTABLE, h, 2)
  local key = p .. 'j:' .. id
  sequence = sequence + 1
  flags = bor(flags, changes.flags or 0)
  change(p, id, 'q', flags, claim, attempt, changes.crashes or crashes, sequence)
  if changes.forgets_token then call('SETRANGE', key, '12', NO_TOKEN) end
  local ticket = ticket_of(id, h, claim)
  if band(flags, SUSPECT) ~= 0 then
    call('RPUSH', p .. 'S', ticket)
    call('SADD', SUSPECT_SHARDS, p)
  else
    local route = stored_route(p, id, h)
    push(p, route, lane_of(h), {ticket}, changes.to_front)
    call('ZADD', p .. 'M', 'XX', changes.raw, route)
  end
  tell_change(p, id, flags, sequence)
end
