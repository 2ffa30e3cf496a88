-- Refuse the rows of {raw} whose id an earlier row of the source has. Ids that occur once, nearly all,
-- are told by their hash alone.
insert into verdicts
with hashes as (
    select md5_number_lower({id}) as hash
    from {raw}
    where rowid not in (select verdicts.row_id from verdicts)
    group by hash
    having count(*) > 1
),

repeated as (
    select rowid as row_id, row_number() over (partition by {id} order by rowid) as place
    from {raw}
    where
        md5_number_lower({id}) in (select hashes.hash from hashes)
        and rowid not in (select verdicts.row_id from verdicts)
)

select row_id, 'duplicate_id', $name || ': an earlier row has this id; ids are unique', false
from repeated
where place > 1
