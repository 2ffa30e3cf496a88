-- The candidates of one range, in the order of what they drew. One row per candidate.
select {drawn} as drawn, {tokens} as num_tokens
from {view}
where reason is null and split = 0 and {drawn} >> {shift} = {number}
order by drawn
