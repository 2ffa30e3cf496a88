-- What export_kaldi_utterances.sql calls: a name in which the signs that match a pattern are =XX.
create or replace temp macro kaldi_name(name, pattern) as
if(
    regexp_matches(name, pattern),
    array_to_string(
        list_transform(
            regexp_extract_all(name, '(?s).'),
            lambda sign: if(regexp_matches(sign, pattern), regexp_replace(hex(sign), '(..)', '=\1', 'g'), sign)
        ),
        ''
    ),
    name
);
