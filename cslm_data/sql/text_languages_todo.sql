-- The texts whose language nobody has detected yet, in the order of their hashes, written to {files}.
-- One row per distinct text and the language that its corpus says it is in.
copy (
    with done as (
        select text_hash, language
        from text_languages
    ),

    said as (
        select md5_number_lower(text) as text_hash, language, any_value(text[:400]) as text
        from texts
        where language is not null
        group by all
    )

    select text_hash, language, text
    from said
    anti join done using (text_hash, language)
    order by text_hash, language
) to {files} (format parquet, row_group_size 20480);
