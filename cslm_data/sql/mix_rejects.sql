-- What makes no sample of a source, and why. One row per candidate. `pool` and `ids` are of the source.
select ids.corpus, ids.id, pool.reason, pool.reject_detail, pool.total
from {pool} as pool
inner join ({ids}) as ids using (id_hash)
where pool.reason is not null
order by ids.id
