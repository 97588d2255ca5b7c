-- claim: queued -> running, for the routes that have room.
--
-- ARGV: child id 8, token 16, lease ms, count max, takes a suspect 0/1 or 2: and nothing else while one waits whose
-- route it does not name, wants a wake 0/1, how many new jobs may be handed
-- to it while it is idle, then route and room in pairs. Answers: ids one after the other; has more 0/1; hints: route,
-- best band of waiting routes not asked for; how many jobs of a newer version were met; the time of the claim in ms; for
-- each id its record as it was before, or nothing when that is large; the token of the claim before, if that has been
-- answered by a message.
-- The shards are looked at in the order of KEYS, better bands of all shards before worse ones.
--
-- A standing claim is what an idle child has room for: format u8 (1), the newest schema it can read u8, token 16, lease
-- ms u32, count u16, then for each route room u16, size u16 and name. Submit starts what it brings for the child and
-- hands it over by a message: 'j', token, time of the claim u48, has more u8, then for each job id, size u16 and its
-- record as a claim answers it. The claim stands for a moment, until its child claims again, is handed something or is woken.

-- Of a header, from byte 2: schema, state, flags, claim, attempt, crashes, sequence, started, expires, pieces, payload
-- size. One call and few strings: this runs for every job. The record comes along with its header, up to a size.
local START = '<Bc1BI2BBI4xxxxxxxxxxxxxxxxI6xxxxxxxxxxxxxxxxxxxxxxI6I2I4'
local LOOK_LAST, LOOK_ALL = '31', 64 -- waiting routes of a shard that are listed: the last, and what that answers
local NEWER_TURNS = 4 -- looks into lanes of a band that gave tickets for newer workers
local SUSPECT_LOOKS = 16 -- suspects of a shard that one call looks at
local STALE_MAX = 500 -- tickets of jobs that have ended, dropped in one call

-- Starts the job of a ticket. True when it runs now.
local function start(c, p, ticket)
  local id = sub(ticket, 2, 35)
  local key = p .. 'j:' .. id
  local h = read_record(key, CLAIM_INLINE_LAST)
  if #h < HEADER then return false end
  local schema, state, flags, claim, attempt, crashes, sequence, started, expires, _, size = unpack_bytes(START, h, 2)
  if schema > JOB_SCHEMA then return nil end
  if state ~= 'q' or claim ~= unpack_bytes('<I2', ticket, 47) then return false end
  if expires > 0 and expires <= c.raw then
    end_job(p, id, h, 'E', EXPIRED, c.raw, c.sums)
    return false
  end
  if started == 0 then started = c.raw end
  claim, sequence = (claim + 1) % 65536, sequence + 1
  call('SETRANGE', key, '2', pack('<c1BI2BBI4c16I6', 'r', flags, claim, attempt, crashes, sequence, c.token, started))
  local leases = c.leases[p]
  if not leases then
    leases = {}
    c.leases[p] = leases
    c.score[p] = string.format('%.0f', logical_ms(p, c.raw) + c.lease_ms)
  end
  local n = #leases
  leases[n + 1] = c.score[p]
  leases[n + 2] = pack('<c46I2c16', ticket, claim, c.token)
  n = #c.ids + 1
  c.ids[n], c.records[n] = id, #h <= CLAIM_INLINE_LAST and h or ''
  c.left, c.bytes_left = c.left - 1, c.bytes_left - size
  if band(flags, FOLLOWED) ~= 0 then c.followed[#c.followed + 1] = {p, id, flags, sequence} end
  return true
end

-- Takes up to count tickets of a lane; returns how many started, whether the lane is empty now, and how many are for
-- newer workers.
local function take(c, p, route, lane, count)
  local key = p .. 'q:' .. route .. ':' .. lane
  local tickets = call('LPOP', key, count)
  if not tickets then return 0, true, 0 end
  local started, newer, is_empty = 0, {}, #tickets < count
  for i, ticket in ipairs(tickets) do
    if c.bytes_left <= 0 then
      for back = #tickets, i, -1 do call('LPUSH', key, tickets[back]) end
      is_empty = false
      break
    end
    local done = start(c, p, ticket)
    if done then
      started = started + 1
    else
      if done == nil then newer[#newer + 1] = ticket end
      c.stale_left = c.stale_left - 1
    end
  end
  -- What a newer version wrote is for newer workers: to the end, where it does not hold up what we can do.
  if newer[1] then
    call('RPUSH', key, unpack(newer))
    c.newer = c.newer + #newer
    is_empty = false
  end
  return started, is_empty or call('EXISTS', key) == 0, #newer
end

local function advance(p, ring, lane, started, is_empty)
  if is_empty then
    call('ZREM', ring, lane)
  elseif started > 0 then
    local weight = tonumber(call('HGET', p .. 'w', sub(lane, 2)) or 1)
    call('ZINCRBY', ring, started * 1000 / weight, lane)
  end
end

-- Lanes of one band of a route, in ring order, until room or band is used up.
local function drain_band(c, p, route, number, room)
  local ring = p .. 'R:' .. route
  local low, high = BAND_FROM[number], BAND_TO[number]
  local low_key = p .. 'lo'
  local credit -- claims since the low band had its turn; nil when nothing low waits
  if number < 2 and call('ZRANGEBYSCORE', ring, BAND_FROM[2], BAND_TO[2], 'LIMIT', '0', '1')[1] then
    credit = tonumber(call('HGET', low_key, route) or 0)
  end
  local had_credit, turns = credit, NEWER_TURNS
  while room > 0 and c.left > 0 and c.bytes_left > 0 and c.stale_left > 0 and turns > 0 do
    local from, to, count = low, high, min(room, c.left)
    if credit and credit >= LOW_SHARE then from, to, count = BAND_FROM[2], BAND_TO[2], 1 end
    local lanes = call('ZRANGEBYSCORE', ring, from, to, 'LIMIT', '0', '2')
    if not lanes[1] then
      if from == low then break end
      credit = nil
    else
      if lanes[2] then count = min(count, QUANTUM) end
      if credit and from == low then count = min(count, LOW_SHARE - credit) end
      local started, is_empty, newer = take(c, p, route, lanes[1], count)
      advance(p, ring, lanes[1], started + newer, is_empty)
      if newer > 0 then turns = turns - 1 end
      room = room - started
      if credit then credit = from == low and credit + started or credit - LOW_SHARE * started end
    end
  end
  if had_credit and credit ~= had_credit then call('HSET', low_key, route, max(0, credit or 0)) end
  return room
end

-- After a drain: the best band that still waits, or nil when nothing does.
local function settle(p, route, was)
  local first = call('ZRANGE', p .. 'R:' .. route, '0', '0')[1]
  if not first then
    retire_route(p, route)
    call('HDEL', p .. 'lo', route)
    return nil
  end
  local best = byte(first) - 48
  if best ~= was then call('ZADD', p .. 'A', 'XX', best, route) end
  return best
end

-- One suspect of a route with room. Routes nobody asked for by name are told as hints: for a suspect, no other job of
-- its route may ever come.
local function take_suspect(c, p, room)
  local key, kept = p .. 'S', 0
  for _, ticket in ipairs(call('LRANGE', key, '0', SUSPECT_LOOKS - 1)) do
    local h = read_record(p .. 'j:' .. sub(ticket, 2, 35), HEADER + 8 + LIMIT_ROUTE_BYTES - 1)
    local route = is_record(h) and route_of(h) -- those of a newer version are for newer workers
    local is_open = route and call('SISMEMBER', p .. 'Z', route) == 0
    if #h < HEADER then
      call('LREM', key, '1', ticket)
    elseif is_open and (room[route] or 0) > 0 then
      call('LREM', key, '1', ticket)
      if start(c, p, ticket) then
        room[route] = room[route] - 1
        return true
      end
    else
      if is_open and not room[route] then c.suspects[route] = true end
      kept = kept + 1
    end
  end
  -- None of these can run here: the next look begins half as far on, so that it meets the rest again, with the routes
  -- that this one told of.
  if kept == SUSPECT_LOOKS then call('RPUSH', key, unpack(call('LPOP', key, SUSPECT_LOOKS / 2))) end
  if call('EXISTS', key) == 0 then call('SREM', SUSPECT_SHARDS, p) end
  return false
end

-- What waits, shard by shard, in order: routes asked for into list, in the order asked; hints are the answer, of routes
-- that were not asked for: route -> best band and a shard. One EXISTS tells how many shards have anything: behind the
-- last of those nobody looks, so that a claim after a wake that names the shard looks at one.
local function look(shards, room, asked, list)
  local keys, hints, hints_count = {}, {}, 0
  for i, p in ipairs(shards) do keys[i] = offered_by_prefix[p] end
  local left = call('EXISTS', unpack(keys))
  for i, p in ipairs(shards) do
    if left == 0 then break end
    -- Listed while hints are wanted; asked for by name when there are enough, or the list was too short.
    local waiting = hints_count < LIMIT_HINT_ROUTES and call('ZRANGE', keys[i], '0', LOOK_LAST, 'WITHSCORES')
    local best = {}
    for at = 1, waiting and #waiting or 0, 2 do
      local route, number = waiting[at], tonumber(waiting[at + 1])
      local hint = hints[route]
      best[route] = number
      if not hint and not room[route] then hints_count = hints_count + 1 end
      if not room[route] and (not hint or number < hint.best) then hints[route] = {p = p, best = number} end
    end
    if asked[1] and (not waiting or #waiting == LOOK_ALL) then
      for at, number in ipairs(call('ZMSCORE', keys[i], unpack(asked))) do best[asked[at]] = number and tonumber(number) or nil end
    end
    for _, route in ipairs(asked) do
      if best[route] then list[#list + 1] = {p = p, route = route, best = best[route]} end
    end
    if next(best) then left = left - 1 end
  end
  return hints
end

local function last_arrival(p, route)
  return tonumber(call('ZSCORE', p .. 'M', route) or 0)
end

local function drain_all(c, room, list)
  for number = 0, 2 do
    for _, one in ipairs(list) do
      if c.left <= 0 or c.bytes_left <= 0 or c.stale_left <= 0 then return end
      if one.best == number and room[one.route] > 0 then
        room[one.route] = drain_band(c, one.p, one.route, number, room[one.route])
        one.best = settle(one.p, one.route, number)
      end
    end
  end
end

local STANDING_FORMAT, STANDING_HANDED = 1, 104 -- 'h' and the token: the message is out
local STANDING_HEAD = '<BBc16I4I2'
local STANDING_HEAD_SIZE = 24

-- Leaves what a claim asked for behind.
local function leave_standing(child, args)
  local parts = {pack(STANDING_HEAD, STANDING_FORMAT, JOB_SCHEMA, args[2], tonumber(args[3]), min(tonumber(args[7]), HANDED_MAX))}
  for i = 8, #args, 2 do parts[#parts + 1] = pack('<I2I2', min(tonumber(args[i + 1]), 65535), #args[i]) .. args[i] end
  call('SET', STANDING .. child, table.concat(parts), 'PX', STANDING_MS)
end

local function new_claim(token, raw, lease_ms, count)
  return {token = token, raw = raw, lease_ms = lease_ms, left = count, bytes_left = CLAIM_BYTES, stale_left = STALE_MAX,
          ids = {}, records = {}, leases = {}, score = {}, followed = {}, sums = {}, newer = 0, suspects = {}}
end

-- All that has been started is written down: leases, totals, and followers are told.
local function write_claim(c)
  for p, leases in pairs(c.leases) do call('ZADD', p .. 'L', unpack(leases)) end
  write_sums(c.sums)
  for _, one in ipairs(c.followed) do tell_change(unpack(one)) end
end

function verbs.claim(keys, args)
  local child, room, asked = args[1], {}, {}
  local c = new_claim(args[2], now_ms(), tonumber(args[3]), tonumber(args[4]))
  for i = 8, #args, 2 do
    room[args[i]] = tonumber(args[i + 1])
    asked[#asked + 1] = args[i]
  end
  call('ZREM', IDLE, child)
  local stood, handed = redis.pcall('GET', STANDING .. child), ''
  if stood then call('UNLINK', STANDING .. child) end
  if type(stood) == 'string' and byte(stood) == STANDING_HANDED then handed = sub(stood, 2) end
  local list = {}
  local hints = look(prefixes(keys), room, asked, list)
  if args[5] ~= '0' and c.left > 0 then
    for _, p in ipairs(call('SMEMBERS', SUSPECT_SHARDS)) do
      if take_suspect(c, p, room) then break end
    end
  end
  -- Its child asks anew, by the name that it is told.
  local waits = args[5] == '2' and #c.ids == 0 and next(c.suspects) ~= nil
  if not waits then drain_all(c, room, list) end
  write_claim(c)

  local has_more, stamp, place, named = waits, 0, nil, {}
  local function note_arrival(p, route)
    local at = last_arrival(p, route)
    if at > stamp then stamp, place = at, p end
  end
  local has_idle = call('EXISTS', IDLE) == 1
  for _, one in ipairs(list) do
    if one.best then
      has_more = true
      if has_idle then note_arrival(one.p, one.route) end
    end
  end
  for route in pairs(c.suspects) do
    if #named >= LIMIT_HINT_ROUTES then break end
    named[#named + 1] = route
    named[#named + 1] = '0'
  end
  -- Who is full is told as well: where nobody names a route, nobody asks for it.
  for route, hint in pairs(hints) do
    if #named >= 2 * LIMIT_HINT_ROUTES then break end
    named[#named + 1] = route
    named[#named + 1] = tostring(hint.best)
    if has_idle then note_arrival(hint.p, route) end
  end
  -- What we cannot take or serve is offered to the children that went idle before it came: each once.
  if stamp > 0 then wake(stamp, place) end
  if #c.ids == 0 and args[6] == '1' and not waits then
    call('ZADD', IDLE, c.raw, child)
    if args[7] ~= '0' then leave_standing(child, args) end
  end
  return {table.concat(c.ids), has_more and 1 or 0, named, c.newer, c.raw, c.records, handed}
end

-- ---- for submit: the standing claim of whoever is idle for longest

-- What stands for a child, if we can read it, and it what we write.
local function read_standing(child)
  local standing = redis.pcall('GET', STANDING .. child)
  if type(standing) ~= 'string' or #standing < STANDING_HEAD_SIZE then return nil end
  if byte(standing, 1) ~= STANDING_FORMAT or byte(standing, 2) < JOB_SCHEMA then return nil end
  return standing
end

-- The claim, and room by route; nil: nobody stands, and whoever is idle can only be woken.
function take_standing(raw)
  for _ = 1, 8 do
    local child = call('ZRANGE', IDLE, '0', '0')[1]
    local standing = child and read_standing(child)
    if not standing then return nil end
    -- Where Redis does not let us ask who listens, nobody is given anything.
    local listeners = redis.pcall('PUBSUB', 'NUMSUB', 'pk:c:' .. child)
    if listeners.err then return nil end
    if listeners[2] > 0 then
      local _, _, token, lease_ms, count, at = unpack_bytes(STANDING_HEAD, standing)
      local c = new_claim(token, raw, lease_ms, count)
      c.child, c.room = child, {}
      while at <= #standing do
        local free, size, from = unpack_bytes('<I2I2', standing, at)
        at = from + size
        c.room[sub(standing, from, at - 1)] = free
      end
      return c
    end
    call('ZREM', IDLE, child)
    call('UNLINK', STANDING .. child)
  end
end

-- Starts what it has room for of new tickets, in order, where none of their route waits in the shard: what would be
-- claimed next anyway need not stand in a lane first. Answers those that are left.
function start_new(c, p, route, tickets)
  local room = min(c.room[route] or 0, c.left, #tickets)
  local ring, paused = p .. 'R:' .. route, p .. 'Z'
  if room == 0 then return tickets end
  if call('EXISTS', ring, paused) > 0 and (call('EXISTS', ring) == 1 or call('SISMEMBER', paused, route) == 1) then
    return tickets
  end
  local left = {}
  for n, ticket in ipairs(tickets) do
    if n > room or c.bytes_left <= 0 then
      left[#left + 1] = ticket
    else
      start(c, p, ticket)
    end
  end
  c.room[route] = c.room[route] - room
  return left
end

-- Hands over what was started, if anything was. has_more: the same call left something in the lanes.
function hand(c, has_more)
  write_claim(c)
  if #c.ids == 0 then return end
  local parts = {}
  for n, id in ipairs(c.ids) do parts[n] = id .. pack('<I2', #c.records[n]) .. c.records[n] end
  call('ZREM', IDLE, c.child)
  call('SET', STANDING .. c.child, 'h' .. c.token, 'PX', HANDED_NOTE_MS)
  call('PUBLISH', 'pk:c:' .. c.child,
       'j' .. c.token .. pack('<I6B', c.raw, has_more and 1 or 0) .. table.concat(parts))
end
