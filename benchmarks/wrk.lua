-- Ask for predictions; print what was measured as one line of JSON.
-- Variables: BENCHMARK_BODY (a file), BENCHMARK_TYPE (its media type, if it is not JSON), BENCHMARK_PAUSE
-- (ms between two requests of a client, on average).
wrk.method = "POST"
wrk.headers["Content-Type"] = os.getenv("BENCHMARK_TYPE") or "application/json"
local file = io.open(os.getenv("BENCHMARK_BODY"), "rb")
wrk.body = file:read("*a")
file:close()

local pause = tonumber(os.getenv("BENCHMARK_PAUSE") or "0")
if pause > 0 then
  -- Drawn anew each time, so that clients do not keep step.
  function delay() return math.random(0, 2 * pause) end
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "errors": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
