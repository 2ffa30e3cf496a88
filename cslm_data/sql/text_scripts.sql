-- Which script a text is in. Filled by cslm_data/text/scripts.py, run after views.sql.

-- One row per language whose script is known: its scripts by their names of ISO 15924.
create or replace temp view language_scripts as
select language, scripts
from (values
    {language_scripts}
) as known (language, scripts);

-- One row per text with letters, of a language whose script is known: how many of its letters are in no
-- script of the language. Foreign names are usual, so a small share says nothing.
create or replace temp view text_scripts as
with known as (
    select *
    from texts
    where language in (select language from language_scripts)
),

counted as (
    select
        *,
        length(regexp_replace(text, '[^\p{L}]+', '', 'g')) as letters,
        case
        {outside}
        end as outside,
    from known
)

select
    table_name,
    id,
    field,
    corpus,
    language,
    letters,
    outside,
    outside / letters as share_outside,
from counted
where letters > 0;
