-- cancel, forget, follow, history: verbs on single jobs.

local function head_of(key, h)
  return call('GETRANGE', key, '0', head_size(h) - 1)
end

-- cancel: queued, scheduled, blocked, running -> cancelled. ARGV[1] is the id. Answers a letter and the head as it is
-- then: k cancelled now, e ended before, n no such job, v of a newer version.
function verbs.cancel(keys, args)
  local p, id = prefixes(keys)[1], args[1]
  local key = p .. 'j:' .. id
  local h = read_record(key, READ)
  if #h < HEADER then return {'n', ''} end
  local schema, state, _, claim, _, _, _, token = unpack_bytes(MUTABLE, h, 2)
  if schema > JOB_SCHEMA then return {'v', ''} end
  if state == 's' then
    call('ZREM', p .. 'D', ticket_of(id, h, claim))
  elseif state == 'r' then
    call('ZREM', p .. 'L', ticket_of(id, h, claim) .. token)
    call('PUBLISH', 'pk:c:' .. sub(token, 1, 8), 'c' .. id .. pack('<I2', claim))
  elseif state ~= 'q' and state ~= 'b' then
    return {'e', head_of(key, h)}
  end
  -- A queued job's ticket stays in its list and is dropped when it comes to the front.
  local sums = {}
  local record = end_job(p, id, h, 'C', CANCELLED, now_ms(), sums)
  write_sums(sums)
  return {'k', record}
end

-- forget: deletes body and result of an ended job; its head stays until its time. Letters as above, with k forgotten
-- and l still live.
function verbs.forget(keys, args)
  local p, id = prefixes(keys)[1], args[1]
  local key = p .. 'j:' .. id
  local h = read_record(key, READ)
  if #h < HEADER then return {'n', ''} end
  local schema, state, flags, claim, attempt, crashes, sequence = unpack_bytes(MUTABLE, h, 2)
  if schema > JOB_SCHEMA then return {'v', ''} end
  if string.find('qsbr', state, 1, true) then return {'l', head_of(key, h)} end
  if band(flags, FORGOTTEN) == 0 then
    drop_request(p, id)
    local head = head_of(key, h)
    if band(flags, PIECES) ~= 0 then
      for n = 0, unpack_bytes('<I2', h, 63) - 1 do
        call('UNLINK', p .. 'r:' .. id .. ':' .. claim .. ':' .. n)
      end
      flags = flags - PIECES
    end
    local change_bytes = pack(CHANGE, state, bor(flags, FORGOTTEN), claim, attempt, crashes, sequence + 1)
    call('SET', key, sub(head, 1, 2) .. change_bytes .. sub(head, 13, 62) .. '\0\0\0\0\0\0' .. sub(head, 69, 84) ..
      '\0\0\0\0' .. sub(head, 89), 'KEEPTTL')
    h = call('GETRANGE', key, '0', READ)
  end
  return {'k', head_of(key, h)}
end

-- follow: registers a broker for the changes of jobs, or refreshes that. ARGV[1] is the broker, then one argument a
-- job: shard index u8, 'f' (follow) or 'h' (held open: known by its record), sequence seen u32, id. Answers for each its
-- head, '' when nothing changed since that sequence, '-' when it is gone.
function verbs.follow(keys, args)
  local shard, answer = prefixes(keys), {}
  for i = 2, #args do
    local one = args[i]
    local p, id = shard[byte(one)], sub(one, 7)
    local key = p .. 'j:' .. id
    local h = read_record(key, READ)
    if #h < HEADER then
      answer[i - 1] = '-'
    else
      local flags, sequence = byte(h, 4), unpack_bytes('<I4', h, 9)
      if sub(one, 2, 2) == 'f' and byte(h, 2) <= JOB_SCHEMA and string.find('qsbr', sub(h, 3, 3), 1, true) then
        call('SADD', p .. 'f:' .. id, args[1])
        call('PEXPIRE', p .. 'f:' .. id, FOLLOW_MS)
        if band(flags, FOLLOWED) == 0 then call('SETRANGE', key, '3', char(flags + FOLLOWED)) end
      end
      answer[i - 1] = sequence ~= unpack_bytes('<I4', one, 3) and head_of(key, h) or ''
    end
  end
  return answer
end

-- history: recorded changes after a sequence. ARGV: id, sequence. Answers the job's sequence now (-1: gone), then
-- the records, oldest first.
function verbs.history(keys, args)
  local p, id = prefixes(keys)[1], args[1]
  local h = read_record(p .. 'j:' .. id, READ)
  local answer = {#h >= HEADER and unpack_bytes('<I4', h, 9) or -1}
  local from = string.format('%.0f', tonumber(args[2]) + 1) .. '-0'
  for _, entry in ipairs(call('XRANGE', p .. 'o:' .. id, from, '+', 'COUNT', HISTORY_ENTRIES)) do
    answer[#answer + 1] = entry[2][2]
  end
  return answer
end
verb_flags.history = {'no-writes', 'allow-oom'}
