-- submit: (nothing) -> queued or scheduled. The records were SET just before, in the same MULTI.
--
-- ARGV[1]: routes_max u32, jobs_max u64, bytes_max u64, shards u16. Then groups of jobs that have everything in common:
-- what queue_submit.c packs of the group, the route, and for each job its ticket and its packed id. A job with a key, a
-- due time or pieces is a group of its own, so is every job where there are limits. Answers one letter a group: k
-- kept, r replay, c conflict (same key, other body), m too many models, f queue full; then the earlier id for each
-- r and c.

-- Of a group: shard index, flags, jobs, pieces, weight, due, expires, bytes, keep until (s), hour, lane. Where there is a
-- key, its hash and that of the body follow.
local GROUP = '<BBI2I2I2I6I6I8I4I4c7'
local GROUP_SIZE = 43
local KEYED, USUAL_DEADLINE = 1, 2 -- the deadline: USUAL_DEADLINE_MS after the time in the id

-- Live jobs and bytes over all shards, only looked up when there is a limit.
local function count_live(shards)
  local jobs, bytes = 0, 0
  for s = 0, shards - 1 do
    local live = call('HMGET', '{' .. s .. '}:n', 'j', 'b')
    jobs, bytes = jobs + (tonumber(live[1]) or 0), bytes + (tonumber(live[2]) or 0)
  end
  return jobs, bytes
end

-- Would this be one route more than may be live? fresh: routes that this call brings; all of them are counted only where
-- they could come near the limit.
local function is_route_beyond(p, route, routes_max, fresh)
  if fresh.is_far_from_max or fresh.routes[route] or call('EXISTS', p .. 'R:' .. route) == 1 or call('HEXISTS', LIVE_ROUTES, route) == 1 then
    return false
  end
  if call('HLEN', LIVE_ROUTES) + fresh.count >= routes_max then return true end
  fresh.routes[route] = true
  fresh.count = fresh.count + 1
  return false
end

-- An earlier job of the same key: its body's hash and its id. seen: keys of this call.
local function find_earlier(p, hash, seen)
  local earlier = seen[p .. hash] or call('GET', p .. 'u:' .. hash)
  if not earlier then return nil end
  local id = sub(earlier, 33)
  if not seen[p .. hash] and call('EXISTS', p .. 'j:' .. id) == 0 then return nil end
  return sub(earlier, 1, 32), id
end

local function take_back(group, args)
  for i = group.from, group.to, 2 do
    local id = sub(args[i], 2, 35)
    local names = {group.p .. 'j:' .. id}
    for n = 0, group.pieces - 1 do names[n + 2] = group.p .. 'b:' .. id .. ':' .. n end
    call('UNLINK', unpack(names))
  end
end

-- First pass: what becomes of each group. Refused ones take their records back; nothing else is written.
local function decide(args, shard, result)
  local routes_max, jobs_max, bytes_max, shards = unpack_bytes('<I4I8I8I2', args[1])
  local seen, fresh, kept, i = {}, {count = 0, routes = {}}, {}, 2
  local jobs, bytes = 0, 0
  if jobs_max > 0 or bytes_max > 0 then jobs, bytes = count_live(shards) end
  if routes_max > 0 then fresh.is_far_from_max = call('HLEN', LIVE_ROUTES) + #args / 4 < routes_max end
  while i < #args do
    local b, group, code = args[i], {route = args[i + 1]}, 'k'
    local which, flags
    which, flags, group.count, group.pieces, group.weight, group.due, group.expires, group.bytes, group.keep,
      group.hour, group.lane = unpack_bytes(GROUP, b)
    local p = shard[which]
    group.p, group.from, group.to = p, i + 2, i + 1 + 2 * group.count
    group.is_usual = band(flags, USUAL_DEADLINE) ~= 0
    i = group.to + 1
    local body, earlier
    if band(flags, KEYED) ~= 0 then
      group.hash, group.body = sub(b, GROUP_SIZE + 1, GROUP_SIZE + 32), sub(b, GROUP_SIZE + 33)
      body, earlier = find_earlier(p, group.hash, seen)
    end
    if earlier then
      code = body == group.body and 'r' or 'c'
      result[#result + 1] = earlier
    elseif routes_max > 0 and is_route_beyond(p, group.route, routes_max, fresh) then
      code = 'm'
    elseif (jobs_max > 0 and jobs + group.count > jobs_max) or (bytes_max > 0 and bytes + group.bytes > bytes_max) then
      code = 'f'
    end
    if code == 'k' then
      jobs, bytes = jobs + group.count, bytes + group.bytes
      if group.hash then seen[p .. group.hash] = group.body .. sub(args[group.from], 2, 35) end
      kept[#kept + 1] = group
    else
      take_back(group, args)
    end
    result[1] = result[1] .. code
  end
  return kept, routes_max
end

-- Tickets into their lane, to the child that stands for them, or among the delayed; totals of the route. True: some wait in
-- the lane.
local function write_tickets(group, tickets, raw, routes_max, standing)
  local p, route, tenant = group.p, group.route, sub(group.lane, 2)
  local stored = call('HGET', p .. 'w', tenant)
  if tonumber(stored or 1) ~= group.weight then call('HSET', p .. 'w', tenant, group.weight) end
  if group.due > 0 then
    call('ZADD', p .. 'D', group.due, tickets[1])
  else
    if standing then tickets = start_new(standing, p, route, tickets) end
    if tickets[1] then push(p, route, group.lane, tickets, false) end
  end
  call('HINCRBY', p .. 'c:' .. route, 'submitted', text_of(group.count))
  local known_max = routes_max > 0 and 2 * routes_max or 65536
  if call('ZADD', p .. 'M', text_of(raw), route) == 1 and call('ZCARD', p .. 'M') > known_max then
    local oldest = call('ZRANGE', p .. 'M', '0', '0')[1]
    if call('EXISTS', p .. 'R:' .. oldest) == 0 then
      call('ZREM', p .. 'M', oldest)
      call('UNLINK', p .. 'c:' .. oldest)
    end
  end
  return group.due == 0 and tickets[1] ~= nil
end

local function keep_until(key, keep, is_new)
  if is_new then call('EXPIREAT', key, text_of(keep)) else call('EXPIREAT', key, text_of(keep), 'GT') end
end

-- Index lists stay in order of slots, so that they can be searched: ids that come late, because another broker or a clock
-- was ahead of theirs, go into a sorted set beside the list. Answers those ids.
local function write_index(group, packed, tickets)
  local tenant = sub(group.lane, 2)
  local list = tenant .. ':' .. group.hour
  local key = group.p .. 'i:' .. list
  local last = call('LINDEX', key, '-1')
  local slot, in_order, late, late_ids = last and sub(last, 1, 6) or '', {}, {}, {}
  for n, id in ipairs(packed) do
    local of_id = sub(id, 1, 6)
    if of_id < slot then
      late[#late + 1], late[#late + 2] = '0', id
      late_ids[#late_ids + 1] = sub(tickets[n], 2, 35)
    else
      slot, in_order[#in_order + 1] = of_id, id
    end
  end
  if in_order[1] then
    call('RPUSH', key, unpack(in_order))
    keep_until(key, group.keep + DEADLINE_GRACE_S, not last)
    if not last then
      call('ZADD', group.p .. 'I:' .. tenant, group.hour, group.hour)
      call('ZADD', group.p .. 'yi', look_at(group.hour * HOUR_MS), list)
      call('HDEL', group.p .. 'yo', list)
    end
  end
  if late[1] then
    local is_new = call('EXISTS', key .. ':l') == 0
    call('ZADD', key .. ':l', unpack(late))
    keep_until(key .. ':l', group.keep, is_new)
  end
  return late_ids
end

-- The minute from which deadlines still wait in lists; earlier ones are in the sorted set already.
local function first_listed_minute(p, raw)
  local pointer = tonumber(call('GET', p .. 'yp'))
  if not pointer then
    pointer = floor(raw / 60000) + 2
    call('SET', p .. 'yp', pointer)
  end
  return pointer
end

-- When the jobs must end: among those that are near, where each has its own time; the usual deadline is found by the
-- index, unless it is less than an hour away (that of a clock that was ahead), because the list of its hour may have been
-- walked; others stand in a list by minute. late: those that the index has out of order.
local function write_deadlines(group, tickets, late, raw)
  local p, minute, ids = group.p, floor(group.expires / 60000), late
  local pointer = first_listed_minute(p, raw)
  local is_near = minute < pointer
  if minute < pointer + 60 or not group.is_usual then
    ids = {}
    for n, ticket in ipairs(tickets) do ids[n] = sub(ticket, 2, 35) end
  end
  if is_near then
    for _, id in ipairs(ids) do
      call('ZADD', p .. 'Y', unpack_bytes('<I6', call('GETRANGE', p .. 'j:' .. id, '56', '61')), id)
    end
  elseif ids[1] then
    call('RPUSH', p .. 'y:' .. minute, unpack(ids))
  end
end

function verbs.submit(keys, args)
  local result, raw = {''}, now_ms()
  local kept, routes_max = decide(args, prefixes(keys), result)
  local sums, ready, standing, has_looked = {}, nil, nil, false
  for _, group in ipairs(kept) do
    local tickets, packed, n = {}, {}, 0
    for i = group.from, group.to, 2 do
      n = n + 1
      tickets[n], packed[n] = args[i], args[i + 1]
    end
    if group.due == 0 and not has_looked then standing, has_looked = take_standing(raw), true end
    if write_tickets(group, tickets, raw, routes_max, standing) then ready = group.p end
    local late = write_index(group, packed, tickets)
    if group.expires > 0 then write_deadlines(group, tickets, late, raw) end
    if group.hash then
      call('SET', group.p .. 'u:' .. group.hash, group.body .. sub(tickets[1], 2, 35), 'EX', LIMIT_IDEMPOTENCY_S)
    end
    add_live(sums, group.p, sub(group.lane, 2), group.count, group.bytes)
  end
  write_sums(sums)
  if standing then hand(standing, ready) end
  if ready then wake(nil, ready) end
  return result
end
