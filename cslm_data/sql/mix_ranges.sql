-- Tokens of candidates by the first bits of what they drew. One row per range.
select {drawn} >> {shift} as number, sum({tokens}) as num_tokens
from {view}
where reason is null and split = 0
group by number
order by number
