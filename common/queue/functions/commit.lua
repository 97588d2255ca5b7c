-- finish: running -> succeeded. fail: running -> failed or expired.
--
-- ARGV: number of pieces, their time to live in ms, then three arguments a job: member 64, the whole new
-- record, its time to live in ms; then the pieces of the result. Where there are pieces there is one job.
-- (A plain SET before would be refused by a store that is full, which must still take results.) Answers one
-- letter a job: k recorded, a recorded before by the same claim, f fenced, x not a state of this verb (both:
-- nothing written).

-- Strings are what costs here, so records are passed on as they came, and patched in place where that is needed.

-- Fields of a header that name who runs the job: state, flags, claim, attempt, sequence, token.
local OWNER = '<c1BI2BxI4c16'

-- Whose job is it? 'k' ours and running (the lease is gone then), 'a' when it left running by this very claim, into
-- the state `next_state` or, without one, back to waiting; 'f' not ours.
local function own(p, member, h, state, claim, token, next_state)
  if claim ~= unpack_bytes('<I2', member, 47) or token ~= sub(member, 49) then return 'f' end
  if state == 'r' then return call('ZREM', p .. 'L', member) == 1 and 'k' or 'f' end
  if next_state then return state == next_state and byte(h, 41) == 0 and 'a' or 'f' end
  return (state == 's' or state == 'q') and 'a' or 'f'
end

-- What a job leaves behind when its record has been replaced.
local function clear_live(p, id, h, flags, attempt, next_state)
  if next_state == 'S' and band(flags, PIECES) ~= 0 then
    for n = 0, unpack_bytes('<I2', h, 63) - 1 do call('UNLINK', p .. 'b:' .. id .. ':' .. n) end
  end
  if attempt > 0 then call('UNLINK', p .. 't:' .. id) end
end

local function commit_each(args, allowed, codes, sums)
  local pieces, piece_ttl = tonumber(args[1]), args[2]
  for i = 3, #args - pieces, 3 do
    local member, record = args[i], args[i + 1]
    local p, id, next_state = prefix_of(sub(member, 2, 3)), sub(member, 2, 35), sub(record, 3, 3)
    local key, code = p .. 'j:' .. id, 'x'
    local h = read_record(key, HEADER_LAST)
    local state, flags, claim, attempt, sequence, token
    if not is_record(h) then
      code = 'f'
    elseif allowed[next_state] then
      state, flags, claim, attempt, sequence, token = unpack_bytes(OWNER, h, 3)
      code = own(p, member, h, state, claim, token, next_state)
    end
    if code == 'k' then
      for n = 1, pieces do
        call('SET', p .. 'r:' .. id .. ':' .. claim .. ':' .. n - 1, args[#args - pieces + n], 'PX', piece_ttl)
      end
      if next_state ~= 'S' then keep_request(p, id, h) end
      call('SET', key, record, 'PX', args[i + 2])
      sequence = sequence + 1
      local new_flags = bor(byte(record, 4), band(flags, FOLLOWED + SUSPECT))
      if new_flags ~= byte(record, 4) or sequence ~= unpack_bytes('<I4', record, 9) then
        call('SETRANGE', key, '3', char(new_flags) .. sub(record, 5, 8) .. pack('<I4', sequence))
        record = sub(record, 1, 3) .. char(new_flags) .. sub(record, 5, 8) .. pack('<I4', sequence) .. sub(record, 13)
      end
      clear_live(p, id, h, flags, attempt, next_state)
      add_live(sums, p, sub(h, 43, 48), -1, -live_bytes(h))
      add_total(sums, p, route_of(record), allowed[next_state], 1)
      if band(new_flags, FOLLOWED + HOME) ~= 0 then tell(p, id, new_flags, sequence, record) end
    end
    codes[#codes + 1] = code
  end
end

-- When one of them breaks the call, those before it are written: they are counted all the same.
local function commit(args, allowed)
  local codes, sums = {}, {}
  local is_done, why = pcall(commit_each, args, allowed, codes, sums)
  write_sums(sums)
  if not is_done then error(why) end
  return table.concat(codes)
end

function verbs.finish(keys, args)
  return commit(args, {S = 'succeeded'})
end

function verbs.fail(keys, args)
  return commit(args, {F = 'failed', E = 'expired'})
end

-- retry: running -> scheduled. Arguments a job: member, due ms, the attempt to be kept.
function verbs.retry(keys, args)
  local codes, sums = {}, {}
  for i = 1, #args, 3 do
    local member, due, code = args[i], tonumber(args[i + 1]), 'f'
    local p, id = prefix_of(sub(member, 2, 3)), sub(member, 2, 35)
    local h = read_record(p .. 'j:' .. id, READ)
    if is_record(h) then
      local _, state, flags, claim, attempt, crashes, sequence, token, started = unpack_bytes(MUTABLE, h, 2)
      code = own(p, member, h, state, claim, token)
      if code == 'k' then
        local list, expires = p .. 't:' .. id, unpack_bytes('<I6', h, 57)
        attempt, sequence = min(attempt + 1, 255), sequence + 1
        call('SETRANGE', p .. 'j:' .. id, 2,
             pack('<c1BI2BBI4c16I6I6', 's', flags, claim, attempt, crashes, sequence, token, started, due))
        call('ZADD', p .. 'D', due, ticket_of(id, h, claim))
        call('RPUSH', list, args[i + 2])
        if expires > 0 then call('PEXPIREAT', list, expires + LIMIT_RECORD_AFTER_RESULT_S * 1000) end
        add_total(sums, p, stored_route(p, id, h), 'retried', 1)
        tell_change(p, id, flags, sequence)
      end
    end
    codes[#codes + 1] = code
  end
  write_sums(sums)
  return table.concat(codes)
end

-- release: running -> queued, at the front, nothing counted. One argument a job: its member.
function verbs.release(keys, args)
  local codes, ready = {}, nil
  for i, member in ipairs(args) do
    local p, id, code = prefix_of(sub(member, 2, 3)), sub(member, 2, 35), 'f'
    local h = read_record(p .. 'j:' .. id, READ)
    if is_record(h) then
      local state, _, claim, _, _, token = unpack_bytes(OWNER, h, 3)
      code = own(p, member, h, state, claim, token)
      if code == 'k' then
        requeue(p, id, h, {raw = now_ms(), to_front = true})
        ready = p
      end
    end
    codes[i] = code
  end
  if ready then wake(nil, ready) end
  return table.concat(codes)
end
