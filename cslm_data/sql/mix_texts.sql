-- Every text of the catalog once, to train a text tokenizer on. One row per distinct text.
with spoken as (
    select text
    from utterances
),

translated as (
    select unnest([src, tgt]) as text
    from bitext
),

said as (
    select unnest(turns).text as text
    from dialogues
)

select text from spoken where text is not null
union
select text from translated
union
select text from said where text is not null
order by text
