-- pause, census, list: routes as they stand, and the index of jobs.

-- pause: ARGV: route, 1 or 0. A paused route keeps its jobs and is not offered to claims.
function verbs.pause(keys, args)
  local route = args[1]
  for _, p in ipairs(prefixes(keys)) do
    local first = call('ZRANGE', p .. 'R:' .. route, '0', '0')[1]
    if args[2] == '1' then
      call('SADD', p .. 'Z', route)
      call('ZREM', p .. 'A', route)
    else
      call('SREM', p .. 'Z', route)
      if first then call('ZADD', p .. 'A', byte(first) - 48, route) end
    end
  end
  call('PUBLISH', 'pk:ctl', 'route')
  return 'OK'
end

-- One lane: name 7, depth u32, first and last id.
local function lane_row(p, route, lane)
  local key = p .. 'q:' .. route .. ':' .. lane
  local first, last = call('LINDEX', key, '0'), call('LINDEX', key, '-1')
  if not first then return nil end
  return lane .. pack('<I4', call('LLEN', key)) .. sub(first, 2, 35) .. sub(last, 2, 35)
end

-- census: routes of the shards from (shard, offset) on, as many as the budget of lanes allows. ARGV: index of the
-- shard to start with, offset in its routes, budget. Answers next shard, next offset, then a row for each shard
-- visited from its beginning (leases, delayed, live jobs, live bytes), then a row for each route: shard, name, paused,
-- totals, lanes.
function verbs.census(keys, args)
  local at, offset, budget = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  local shard, shard_rows, route_rows = prefixes(keys), {}, {}
  while at <= #shard and budget > 0 do
    local p = shard[at]
    if offset == 0 then
      local live = call('HMGET', p .. 'n', 'j', 'b')
      shard_rows[#shard_rows + 1] = {call('ZCARD', p .. 'L'), call('ZCARD', p .. 'D'),
                                     tonumber(live[1]) or 0, tonumber(live[2]) or 0}
    end
    local routes = call('ZRANGE', p .. 'M', offset, offset + budget - 1)
    for _, route in ipairs(routes) do
      local totals = call('HMGET', p .. 'c:' .. route, 'submitted', 'succeeded', 'failed', 'cancelled', 'expired',
                          'retried')
      local row = {at, route, call('SISMEMBER', p .. 'Z', route)}
      for i = 1, 6 do row[3 + i] = tonumber(totals[i]) or 0 end
      for _, lane in ipairs(call('ZRANGE', p .. 'R:' .. route, '0', '255')) do
        row[#row + 1] = lane_row(p, route, lane)
        budget = budget - 1
      end
      route_rows[#route_rows + 1] = row
      offset, budget = offset + 1, budget - 1
      if budget <= 0 then break end
    end
    if budget > 0 then at, offset = at + 1, 0 end
  end
  return {at, offset, shard_rows, route_rows}
end
verb_flags.census = {'no-writes', 'allow-oom'}

local LIST_SCAN = 10000

-- First index of a list whose slot is not before this one; the list is in order of slots.
local function first_not_before(key, count, slot)
  local low, high = 0, count
  if count > 0 and slot_of(call('LINDEX', key, '-1')) < slot then return count end
  while low < high do
    local middle = floor((low + high) / 2)
    if slot_of(call('LINDEX', key, middle)) < slot then low = middle + 1 else high = middle end
  end
  return low
end

-- Entries of an index list around a moment: its slot and at least `limit` older ones, by whole slots, because
-- within a slot they stand as they came.
local function window(key, slot, limit)
  local count = call('LLEN', key)
  local from = first_not_before(key, count, slot)
  local to = from < count and first_not_before(key, count, slot + 1) or count
  local first = max(0, from - limit)
  if first > 0 then first = first_not_before(key, count, slot_of(call('LINDEX', key, first))) end
  if to <= first then return {} end
  return call('LRANGE', key, first, min(to, from + LIST_SCAN) - 1)
end

-- The same of those that came late: they are in full order.
local function late_window(key, shard, slot, limit)
  local here, above = '[' .. slot_bytes(shard, slot), '(' .. slot_bytes(shard, slot + 1)
  local ids = call('ZREVRANGEBYLEX', key, above, here, 'LIMIT', '0', LIST_SCAN)
  local older = call('ZREVRANGEBYLEX', key, '(' .. slot_bytes(shard, slot), '-', 'LIMIT', '0', limit)
  for _, id in ipairs(older) do ids[#ids + 1] = id end
  return ids
end

-- list: ids of one hour. ARGV: newest hour wanted, ids of this ms and older, limit, then tenants. Answers the hour that was
-- looked at, the latest hour before it in which there is something (-1: none), and packed ids.
function verbs.list(keys, args)
  local wanted, slot, limit = tonumber(args[1]), floor(tonumber(args[2]) / SLOT_MS), tonumber(args[3])
  local shard, hour, older = prefixes(keys), -1, -1
  for _, p in ipairs(shard) do
    for i = 4, #args do
      local hours = call('ZREVRANGEBYSCORE', p .. 'I:' .. args[i], wanted, '-inf', 'LIMIT', '0', '1')
      if hours[1] then hour = max(hour, tonumber(hours[1])) end
    end
  end
  local ids = {}
  for _, p in ipairs(hour >= 0 and shard or {}) do
    for i = 4, #args do
      local name = p .. 'I:' .. args[i]
      local next_hours = call('ZREVRANGEBYSCORE', name, '(' .. hour, '-inf', 'LIMIT', '0', '1')
      if next_hours[1] then older = max(older, tonumber(next_hours[1])) end
      local key = p .. 'i:' .. args[i] .. ':' .. hour
      local shard_number = tonumber(string.match(p, '%d+'))
      if call('EXISTS', key, key .. ':l') == 0 then
        call('ZREM', name, hour)
      else
        ids[#ids + 1] = table.concat(window(key, slot, limit))
        ids[#ids + 1] = table.concat(late_window(key .. ':l', shard_number, slot, limit))
      end
    end
  end
  return {hour, older, table.concat(ids)}
end
