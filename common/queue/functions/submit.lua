-- submit: (nothing) -> queued or scheduled. The records were SET just before, in the same MULTI.
--
-- ARGV[1]: routes_max u32, jobs_max u64, bytes_max u64, shards u16. Then two arguments a job: what
-- queue_submit.c packs, and the route. Answers one letter a job: k kept, r replay, c conflict (same key, other body),
-- m too many models, f queue full; after that the earlier id for each r and c.

-- Live jobs and bytes over all shards, only looked up when there is a limit.
local function count_live(shards)
  local jobs, bytes = 0, 0
  for s = 0, shards - 1 do
    local live = call('HMGET', '{' .. s .. '}:n', 'j', 'b')
    jobs, bytes = jobs + (tonumber(live[1]) or 0), bytes + (tonumber(live[2]) or 0)
  end
  return jobs, bytes
end

-- Would this be one route more than may be live? fresh: routes that this call brings.
local function is_route_beyond(p, route, routes_max, fresh)
  if fresh.routes[route] or call('EXISTS', p .. 'R:' .. route) == 1 or call('HEXISTS', LIVE_ROUTES, route) == 1 then
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

local function take_back(p, id, pieces)
  local names = {p .. 'j:' .. id}
  for n = 0, pieces - 1 do names[n + 2] = p .. 'b:' .. id .. ':' .. n end
  call('UNLINK', unpack(names))
end

local function group(groups, key, make)
  local found = groups[key]
  if not found then
    found = make()
    groups[key] = found
    groups[#groups + 1] = found
  end
  return found
end

local function write_lanes(lanes, raw, routes_max)
  local known_max = routes_max > 0 and 2 * routes_max or 65536
  for _, lane in ipairs(lanes) do
    local p, route, tenant = lane.p, lane.route, sub(lane.lane, 2)
    local stored = call('HGET', p .. 'w', tenant)
    if tonumber(stored or 1) ~= lane.weight then call('HSET', p .. 'w', tenant, lane.weight) end
    if #lane.tickets > 0 then push(p, route, lane.lane, lane.tickets, false) end
    call('HINCRBY', p .. 'c:' .. route, 'submitted', lane.count)
    if call('ZADD', p .. 'M', raw, route) == 1 and call('ZCARD', p .. 'M') > known_max then
      local oldest = call('ZRANGE', p .. 'M', 0, 0)[1]
      if call('EXISTS', p .. 'R:' .. oldest) == 0 then
        call('ZREM', p .. 'M', oldest)
        call('UNLINK', p .. 'c:' .. oldest)
      end
    end
  end
end

local function write_indexes(indexes, deadlines)
  for _, index in ipairs(indexes) do
    local key = index.p .. 'i:' .. index.tenant .. ':' .. index.hour
    if call('RPUSH', key, unpack(index.ids)) == #index.ids then
      call('EXPIREAT', key, index.keep)
      call('ZADD', index.p .. 'I:' .. index.tenant, index.hour, index.hour)
    else
      call('EXPIREAT', key, index.keep, 'GT')
    end
  end
  for _, deadline in ipairs(deadlines) do call('RPUSH', deadline.key, unpack(deadline.ids)) end
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

-- First pass: what becomes of each job. Refused ones take their records back; nothing else is written.
local function decide(args, shard, result)
  local routes_max, jobs_max, bytes_max, shards = unpack_bytes('<I4I8I8I2', args[1])
  local seen, fresh, kept = {}, {count = 0, routes = {}}, {}
  local jobs, bytes = 0, 0
  if jobs_max > 0 or bytes_max > 0 then jobs, bytes = count_live(shards) end
  for i = 2, #args, 2 do
    local b, route = args[i], args[i + 1]
    local which, pieces, weight, due, expires, size, keep, hour = unpack_bytes('<BI2I2I6I6I4I4I4', b)
    local p, code = shard[which], 'k'
    local hash = #b > 99 and sub(b, 100, 131)
    local body, earlier
    if hash then body, earlier = find_earlier(p, hash, seen) end
    if earlier then
      code = body == sub(b, 132, 163) and 'r' or 'c'
      result[#result + 1] = earlier
    elseif routes_max > 0 and is_route_beyond(p, route, routes_max, fresh) then
      code = 'm'
    elseif (jobs_max > 0 and jobs + 1 > jobs_max) or (bytes_max > 0 and bytes + size > bytes_max) then
      code = 'f'
    end
    if code == 'k' then
      jobs, bytes = jobs + 1, bytes + size
      if hash then seen[p .. hash] = sub(b, 132, 163) .. sub(b, 31, 64) end
      kept[#kept + 1] = {p = p, b = b, route = route, weight = weight, due = due, expires = expires, size = size,
                         keep = keep, hour = hour, hash = hash}
    else
      take_back(p, sub(b, 31, 64), pieces)
    end
    result[1] = result[1] .. code
  end
  return kept, routes_max
end

-- When a job must end: in a list by minute, or among those that are near.
local function note_deadline(job, id, raw, listed, deadlines)
  local p, minute = job.p, floor(job.expires / 60000)
  listed[p] = listed[p] or first_listed_minute(p, raw)
  if minute < listed[p] then
    call('ZADD', p .. 'Y', job.expires, id)
  else
    local deadline = group(deadlines, p .. minute, function() return {key = p .. 'y:' .. minute, ids = {}} end)
    deadline.ids[#deadline.ids + 1] = id
  end
end

function verbs.submit(keys, args)
  local result, raw = {''}, now_ms()
  local kept, routes_max = decide(args, prefixes(keys), result)
  local lanes, indexes, deadlines, sums, listed = {}, {}, {}, {}, {}
  local has_ready = false
  for _, job in ipairs(kept) do
    local p, b, ticket = job.p, job.b, sub(job.b, 30, 77)
    local id, name = sub(ticket, 2, 35), sub(ticket, 36, 42)
    local tenant = sub(name, 2)
    local lane = group(lanes, p .. name .. job.route, function()
      return {p = p, route = job.route, lane = name, weight = job.weight, tickets = {}, count = 0}
    end)
    lane.count = lane.count + 1
    if job.due > 0 then
      call('ZADD', p .. 'D', job.due, ticket)
    else
      lane.tickets[#lane.tickets + 1] = ticket
      has_ready = true
    end
    local index = group(indexes, p .. tenant .. job.hour, function()
      return {p = p, tenant = tenant, hour = job.hour, keep = 0, ids = {}}
    end)
    index.ids[#index.ids + 1] = sub(b, 78, 99)
    index.keep = max(index.keep, job.keep)
    if job.expires > 0 then note_deadline(job, id, raw, listed, deadlines) end
    if job.hash then call('SET', p .. 'u:' .. job.hash, sub(b, 132, 163) .. id, 'EX', LIMIT_IDEMPOTENCY_S) end
    add_live(sums, p, tenant, 1, job.size)
  end
  write_lanes(lanes, raw, routes_max)
  write_indexes(indexes, deadlines)
  write_sums(sums)
  if has_ready then wake(nil) end
  return result
end
