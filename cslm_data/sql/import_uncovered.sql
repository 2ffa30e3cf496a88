-- Refuse what belongs to a part that another run began and whose other utterances are not given.
-- Needs the view `waiting`.
update matched
set
    reason = 'planned',
    detail = 'quantize has begun with this utterance and others, and was stopped; finish that first: cslm-data quantize'
where line in (
    select line
    from waiting
    where name in (select name from waiting group by name having count(*) > count(line))
)
