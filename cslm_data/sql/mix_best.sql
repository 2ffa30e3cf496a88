-- The candidates of a source by quality, the unknown last, equals by what they drew. One row per candidate.
select coalesce(quality, '-infinity'::double) as quality, {drawn} as drawn, {tokens} as num_tokens
from {view}
where reason is null and split = 0
order by quality desc, drawn
