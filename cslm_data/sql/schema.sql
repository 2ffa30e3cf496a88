-- The tables of catalog.duckdb. Units, measures, alignments, mixes and batches are files, seen through
-- views.sql. `all_*` hold everything that was ingested; the views `utterances`, `bitext` and `dialogues`
-- leave out what was moved out by filter or dedup.

-- What holds for the workspace as a whole: `text_rules`, how texts are brought to their comparable form.
create table if not exists settings (
    "name" varchar not null,
    "value" varchar not null,
);

-- One row per manifest that was read.
create table if not exists sources (
    source_uri varchar not null,
    format varchar not null,
    content_hash varchar not null,
    num_rows ubigint not null,
    num_rejected ubigint not null,
);

-- One row per stretch of speech.
create table if not exists all_utterances (
    utt_id varchar not null,
    corpus varchar not null,
    audio varchar not null,
    offset_s double not null,
    duration_s double not null,
    sample_rate_hz integer not null,
    num_channels integer not null,
    language varchar not null,
    speaker varchar,
    text varchar,
    text_norm varchar,
    text_key ubigint,
    kind varchar not null,
    license varchar,
    split varchar,
    audio_version varchar not null,
    key_hash ubigint not null,
    source_uri varchar not null,
    place varchar not null,
    row_hash ubigint not null,
);

-- One row per sentence with its translation.
create table if not exists all_bitext (
    pair_id varchar not null,
    corpus varchar not null,
    src_lang varchar not null,
    tgt_lang varchar not null,
    src varchar not null,
    tgt varchar not null,
    src_key ubigint not null,
    tgt_key ubigint not null,
    license varchar,
    split varchar,
    key_hash ubigint not null,
    source_uri varchar not null,
    place varchar not null,
    row_hash ubigint not null,
);

-- One row per dialogue; a text instruction is one of two turns without audio.
create table if not exists all_dialogues (
    dialogue_id varchar not null,
    corpus varchar not null,
    parallel_id varchar,
    language varchar not null,
    turns struct(
        "role" varchar,
        "language" varchar,
        "text" varchar,
        text_key ubigint,
        audio varchar,
        offset_s double,
        speaker varchar,
        utt_id varchar
    )[] not null,
    license varchar,
    split varchar,
    key_hash ubigint not null,
    source_uri varchar not null,
    place varchar not null,
    row_hash ubigint not null,
);

-- One row per thing refused while ingesting. The view `rejects` adds those of the later stages.
create table if not exists ingest_rejects (
    stage varchar not null,
    corpus varchar not null,
    "key" varchar not null,
    reason varchar not null,
    detail varchar not null,
    source_uri varchar not null,
);

-- One row per filter or dedup that moved rows out; `undone` ones count no more.
create table if not exists curations (
    curation_id integer not null,
    kind varchar not null,
    table_name varchar not null,
    predicate varchar not null,
    reason varchar not null,
    num_rows ubigint not null,
    undone boolean not null,
);

-- One row per row of a catalog table and curation that moved it out. `duplicate_of`: what dedup kept.
create table if not exists exclusions (
    curation_id integer not null,
    table_name varchar not null,
    id varchar not null,
    duplicate_of varchar,
);
