-- Where the rows of one source wait to be checked, a table for each kind. `reason`: why the reader refuses
-- a row. Made anew for each source.
create or replace temp table raw_utterances (
    place varchar,
    utt_id varchar,
    corpus varchar,
    audio varchar,
    offset_s double,
    duration_s double,
    sample_rate_hz integer,
    num_channels integer,
    "language" varchar,
    speaker varchar,
    "text" varchar,
    kind varchar,
    license varchar,
    split varchar,
    reason varchar,
    detail varchar,
);

create or replace temp table raw_bitext (
    place varchar,
    pair_id varchar,
    corpus varchar,
    src_lang varchar,
    tgt_lang varchar,
    src varchar,
    tgt varchar,
    license varchar,
    split varchar,
    reason varchar,
    detail varchar,
);

create or replace temp table raw_dialogues (
    place varchar,
    dialogue_id varchar,
    corpus varchar,
    parallel_id varchar,
    turns struct(
        "role" varchar,
        "language" varchar,
        "text" varchar,
        audio varchar,
        offset_s double,
        speaker varchar,
        utt_id varchar
    )[],
    license varchar,
    split varchar,
    reason varchar,
    detail varchar,
);

create or replace temp table raw_alignments (
    place varchar,
    utt_id varchar,
    words struct(word varchar, start_s double, end_s double, score double)[],
    phones struct(phone varchar, start_s double, end_s double)[],
    reason varchar,
    detail varchar,
);

-- What a reader refuses without saying of which kind it would have been. One row per row.
create or replace temp table raw_rejects (
    corpus varchar,
    "key" varchar,
    reason varchar,
    detail varchar,
);
