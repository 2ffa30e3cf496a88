-- Refuse the rows of {raw} whose language is in `unknown_languages` (language, detail). {languages} lists
-- what a row says.
insert into verdicts
select raws.rowid, 'unknown_language', min({id} || ': ' || unknown_languages.detail), false
from {raw} as raws, unnest({languages}) as said(spoken)
inner join unknown_languages on said.spoken = unknown_languages.language
where raws.rowid not in (select verdicts.row_id from verdicts)
group by raws.rowid
