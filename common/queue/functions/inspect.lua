-- inspect: what must hold between the structures, checked in bounded steps. ARGV[1] names the step, ARGV[2] is a
-- cursor. Answers the next cursor ("0": done), how many entries were looked at, then pairs of finding and example id.

local function check_lease(p, member, found)
  local id = sub(member, 2, 35)
  local h = read_record(p .. 'j:' .. id, READ)
  if #h < HEADER then
    found('lease_without_job', id)
  elseif is_newer(h) then
    return
  elseif sub(h, 3, 3) ~= 'r' or sub(h, 5, 6) ~= sub(member, 47, 48) or sub(h, 13, 28) ~= sub(member, 49) then
    found('lease_of_other_claim', id)
  end
end

local function check_delayed(p, ticket, found)
  local id = sub(ticket, 2, 35)
  local h = read_record(p .. 'j:' .. id, READ)
  if #h < HEADER then
    found('delayed_without_job', id)
  elseif is_record(h) and sub(h, 3, 3) ~= 's' then
    found('delayed_in_other_state', id)
  end
end

local function check_route(p, route, found)
  local lanes = call('ZRANGE', p .. 'R:' .. route, '0', '-1')
  for _, lane in ipairs(lanes) do
    if call('EXISTS', p .. 'q:' .. route .. ':' .. lane) == 0 then found('lane_without_tickets', '') end
  end
  local is_offered = call('ZSCORE', p .. 'A', route)
  local is_paused = call('SISMEMBER', p .. 'Z', route) == 1
  if is_offered and not lanes[1] then found('route_offered_but_empty', '') end
  if lanes[1] and not is_offered and not is_paused then found('route_not_offered', '') end
  if is_offered and is_paused then found('route_offered_but_paused', '') end
end

-- A record: running ones hold a lease, scheduled ones wait in D, live ones have no time to live, ended ones do.
local function check_record(key, found)
  local p, id = string.match(key, '^({%d+}:)j:(.*)$')
  if not p then return end
  local h = read_record(key, READ)
  if #h < HEADER or byte(h, 1) ~= 80 then
    found('record_unreadable', id)
    return
  end
  if is_newer(h) then return end
  local _, state, _, claim, _, _, _, token = unpack_bytes(MUTABLE, h, 2)
  local has_ttl = call('PTTL', key) >= 0
  if string.find('qsbr', state, 1, true) then
    if has_ttl then found('live_job_expires', id) end
  elseif not has_ttl then
    found('ended_job_stays', id)
  end
  if state == 'r' and not call('ZSCORE', p .. 'L', ticket_of(id, h, claim) .. token) then
    found('running_without_lease', id)
  elseif state == 's' and not call('ZSCORE', p .. 'D', ticket_of(id, h, claim)) then
    found('scheduled_without_due', id)
  elseif state == 'q' then
    local route = route_of(call('GETRANGE', key, '0', HEADER + 8 + LIMIT_ROUTE_BYTES - 1))
    local lane = p .. 'q:' .. route .. ':' .. lane_of(h)
    if call('EXISTS', lane) == 0 and call('EXISTS', p .. 'S') == 0 then found('queued_without_ticket', id) end
    if call('HEXISTS', p .. 'c:' .. route, 'submitted') == 0 then found('job_without_index', id) end
  end
end

function verbs.inspect(keys, args)
  local p, step, cursor = prefixes(keys)[1], args[1], args[2]
  local answer = {cursor, 0}
  local function found(name, id)
    answer[#answer + 1] = name
    answer[#answer + 1] = id
  end
  local page
  if step == 'records' then
    page = call('SCAN', cursor, 'MATCH', '{*}:j:*', 'COUNT', INSPECT_SCAN)
  elseif step == 'leases' or step == 'delayed' then
    page = call('ZSCAN', p .. (step == 'leases' and 'L' or 'D'), cursor, 'COUNT', LIMIT_SWEEP)
  else
    page = call('ZSCAN', p .. 'M', cursor, 'COUNT', LIMIT_SWEEP)
  end
  local stride = step == 'records' and 1 or 2
  for i = 1, #page[2], stride do
    local one = page[2][i]
    if step == 'records' then check_record(one, found)
    elseif step == 'leases' then check_lease(p, one, found)
    elseif step == 'delayed' then check_delayed(p, one, found)
    else check_route(p, one, found) end
    answer[2] = answer[2] + 1
  end
  answer[1] = page[1]
  return answer
end
verb_flags.inspect = {'no-writes', 'allow-oom'}
