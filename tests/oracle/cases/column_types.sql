-- Change the type of a column

-- [t_vc20_vc50]
alter table orders alter column status type varchar(50);

-- [t_vc20_vc50_using]
alter table orders alter column status type varchar(50) using status::varchar(50);

-- [t_vc20_vc50_nocheck] indexed, no CHECK constraint on the column
alter table orders alter column vc_idx type varchar(50);

-- [t_vcu_text_notvalid_check] column has a NOT VALID CHECK
-- before:
alter table orders add constraint z check (vcu <> 'zz') not valid;
-- then:
alter table orders alter column vcu type text;

-- [t_vc_text_exprindex] expression index on the column
-- before:
create index ix_low on orders(lower(vc_idx));
-- then:
alter table orders alter column vc_idx type text;

-- [t_vc_text_partialindex] column in a partial-index predicate
-- before:
create index ix_part on orders(id) where vc_idx = 'i1';
-- then:
alter table orders alter column vc_idx type text;

-- [t_vc20_vc10]
alter table orders alter column status type varchar(10);

-- [t_vc20_vc]
alter table orders alter column status type varchar;

-- [t_vc20_text]
alter table orders alter column status type text;

-- [t_vc20_text_idx]
alter table orders alter column vc_idx type text;

-- [t_vc20_text_using]
alter table orders alter column status type text using status::text;

-- [t_vc20_text_using_fn]
alter table orders alter column status type text using lower(status);

-- [t_vc20_text_nocheck] varchar (no length) -> text, no index, no CHECK
alter table orders alter column vcu type text;

-- [t_text_vc]
alter table orders alter column note type varchar;

-- [t_text_vc500]
alter table orders alter column note type varchar(500);

-- [t_vcu_vc50]
alter table orders alter column vcu type varchar(50);

-- [t_vc20_char20]
alter table orders alter column status type char(20);

-- [t_char10_char20]
alter table orders alter column ch type char(20);

-- [t_char10_vc10]
alter table orders alter column ch type varchar(10);

-- [t_char10_text]
alter table orders alter column ch type text;

-- [t_text_samepat] index with text_pattern_ops
alter table orders alter column tpat type varchar;

-- [t_same]
alter table orders alter column qty type int;

-- [t_same_using]
alter table orders alter column qty type int using qty;

-- [t_same_using_expr]
alter table orders alter column qty type int using qty+0;

-- [t_type_and_default]
alter table orders alter column status type varchar(50), alter column status set default 'x';

-- [t_num_10_2_12_2]
alter table orders alter column amount type numeric(12,2);

-- [t_num_10_2_10_4]
alter table orders alter column amount type numeric(10,4);

-- [t_num_10_2_12_4]
alter table orders alter column amount type numeric(12,4);

-- [t_num_10_2_unb]
alter table orders alter column amount type numeric;

-- [t_num_10_2_8_2]
alter table orders alter column amount type numeric(8,2);

-- [t_int_bigint]
alter table orders alter column qty type bigint;

-- [t_int_bigint_noidx]
alter table orders alter column qty_ni type bigint;

-- [t_bigint_int]
alter table orders alter column big type int;

-- [t_si_int]
alter table orders alter column si type int;

-- [t_int_numeric]
alter table orders alter column qty_ni type numeric;

-- [t_int_text]
alter table orders alter column qty_ni type text;

-- [t_int_oid]
alter table orders alter column qty_ni type oid;

-- [t_ts3_ts6]
alter table orders alter column tsp type timestamp(6);

-- [t_ts3_ts]
alter table orders alter column tsp type timestamp;

-- [t_ts_ts3]
alter table orders alter column created type timestamp(3);

-- [t_ts_tstz_utc] TimeZone=UTC, no index
set timezone='UTC';
alter table orders alter column created_ni type timestamptz;

-- [t_ts_tstz_utc_idx] TimeZone=UTC, indexed
set timezone='UTC';
alter table orders alter column created type timestamptz;

-- [t_ts_tstz_utc_using]
set timezone='UTC';
alter table orders alter column created_ni type timestamptz using created_ni at time zone 'UTC';

-- [t_ts_tstz_oslo]
set timezone='Europe/Oslo';
alter table orders alter column created_ni type timestamptz;

-- [t_tstz_ts_utc]
set timezone='UTC';
alter table orders alter column ctz type timestamp;

-- [t_tstz_tstz3]
alter table orders alter column ctz type timestamptz(3);

-- [t_ts_date]
alter table orders alter column created_ni type date;

-- [t_timetz3_6]
alter table orders alter column tzt type timetz(6);

-- [t_iv3_iv6]
alter table orders alter column iv type interval(6);

-- [t_iv3_iv]
alter table orders alter column iv type interval;

-- [t_cidr_inet]
alter table orders alter column net type inet;

-- [t_inet_cidr]
alter table orders alter column ip type cidr;

-- [t_vb10_vb20]
alter table orders alter column vb type varbit(20);

-- [t_vb10_vb]
alter table orders alter column vb type varbit;

-- [t_vb10_vb5]
alter table orders alter column vb type varbit(5);

-- [t_enum_text]
alter table orders alter column md type text;

-- [t_text_enum]
alter table orders alter column tpat type mood using 'a'::mood;

-- [t_enum_enum2]
alter table orders alter column md type mood2 using md::text::mood2;

-- [t_dom_text] unconstrained domain -> base type
alter table orders alter column dm type text;

-- [t_text_dom] base type -> unconstrained domain
alter table orders alter column note type dom_plain;

-- [t_text_domchk] base type -> constrained domain
alter table orders alter column note type dom_chk;

-- [t_domchk_text] constrained domain -> base type
alter table orders alter column dmc type text;

-- [t_vc20_domv20] varchar(20) -> domain over varchar(20)
alter table orders alter column status type dom_v20;

-- [t_vc50_domv20] varchar -> domain over varchar(20)
alter table orders alter column vcu type dom_v20;

-- [t_arr]
alter table orders alter column arr type varchar(50)[];

-- [t_arr_text]
alter table orders alter column arr type text[];

-- [t_coll] collation change, no index
alter table orders alter column vcoll type text collate "POSIX";

-- [t_coll_idx] collation change, indexed
alter table orders alter column status type varchar(20) collate "POSIX";

-- [t_json_jsonb]
alter table orders alter column js type jsonb;

-- [t_text_json]
alter table orders alter column txtjs type json using txtjs::json;

-- [t_json_text]
alter table orders alter column js type text;

-- [t_partitioned_vc]
alter table pt alter column v type varchar;

-- [t_partitioned_int_big]
alter table pt alter column k type bigint;

-- [t_partkey]
alter table pt alter column id type bigint;

-- [t_pk_ref_int_big] PK referenced by child.pid FK
alter table parent alter column id type bigint;

-- [t_fk_col_int_big] FK column
alter table child alter column pid type bigint;

-- [t_pk_ref_vc] referenced varchar(10)->varchar(20)
-- before:
alter table child add constraint f2 foreign key (pcode) references parent(code);
-- then:
alter table parent alter column code type varchar(20);

-- [t_fk_col_vc] FK column varchar(10)->varchar(20)
-- before:
alter table child add constraint f2 foreign key (pcode) references parent(code);
-- then:
alter table child alter column pcode type varchar(20);

-- [t_view_dep] a view uses the column
alter table users alter column email type varchar;

-- [t_stored_gen] generated STORED column depends on it
alter table gen alter column a type bigint;

-- [t_view_uses_column]
alter table watched alter column seen type varchar(50);

-- [t_matview_uses_column]
alter table watched alter column ruled type varchar(50);

-- [t_policy_uses_column]
alter table watched alter column policed type varchar(50);

-- [t_trigger_of_column]
alter table watched alter column triggered type varchar(50);

-- [t_statistics_of_column]
alter table watched alter column counted type varchar(50);

-- [t_statistics_of_column_text]
alter table watched alter column counted type text;

-- [t_unused_column_of_watched]
alter table watched alter column free type varchar(50);

-- [t_generated_base_used]
alter table gen alter column a type int;

-- [t_generated_itself]
alter table gen alter column g type bigint;

-- [t_fk_column_same_family]
alter table tree alter column up type bigint;

-- [t_referenced_by_self]
alter table tree alter column id type bigint;

-- [t_two_columns_one_rewrite]
alter table orders alter column qty type bigint, alter column note type varchar;

-- [t_with_volatile_add]
alter table orders alter column status type varchar(50), add column c float8 default random();

-- [t_check_on_two_columns]
-- before:
alter table orders add constraint both_chk check (vcu <> note);
-- then:
alter table orders alter column vcu type text;

-- [t_vc_text_check_rewritten_too]
alter table orders alter column status type text, alter column qty type bigint;

-- [t_index_include]
-- before:
create index ix_inc on orders (id) include (vc_idx);
-- then:
alter table orders alter column vc_idx type text;

-- [t_index_two_columns]
-- before:
create index ix_two on orders (id, vc_idx);
-- then:
alter table orders alter column vc_idx type varchar(100);

-- [t_index_partial_on_other_column]
-- before:
create index ix_part on orders (vc_idx) where qty > 5;
-- then:
alter table orders alter column vc_idx type text;

-- [t_index_expression_on_other_column]
-- before:
create index ix_low on orders (lower(note));
-- then:
alter table orders alter column vc_idx type text;

-- [t_unique_varchar]
alter table parent alter column code type varchar(50);

-- [t_unique_varchar_text]
alter table parent alter column code type text;

-- [t_primary_key_bigint]
alter table orders alter column id type bigint;

-- [t_serial_bigint]
alter table serials alter column id type bigint;

-- [t_identity_int]
alter table serials alter column ident type int;

-- [t_empty_table]
alter table empty_table alter column n type bigint;

-- [t_inherited]
alter table base alter column v type text;

-- [t_inherited_only]
alter table only base alter column v type text;

-- [t_inherited_child]
alter table derived alter column v type text;

-- [t_inherited_rewrite]
alter table base alter column v type varchar(5);

-- [t_deep_partitions]
alter table deep alter column n type bigint;

-- [t_of_partition]
alter table pt1 alter column v type text;

-- [t_no_cast]
alter table orders alter column note type int;

-- [t_using_fails] the value is no number
alter table orders alter column note type int using note::int;

-- [t_default_does_not_cast]
alter table orders alter column flag type int using flag::int;

-- [t_bpchar_unbounded]
alter table orders alter column ch type bpchar;

-- [t_varchar_array_widened]
alter table orders alter column arr type varchar(20)[];

-- [t_enum_array]
alter table orders alter column md type text using md::text;

-- [t_xid]
alter table orders alter column qty_ni type xid using qty_ni::text::xid;

-- [t_time]
alter table orders alter column tsp type time;

-- [t_numeric_int]
alter table orders alter column amount type int;

-- [t_text_bytea]
alter table orders alter column note type bytea using note::bytea;

-- [t_inet_text]
alter table orders alter column ip type text;

-- [t_interval_fields]
alter table orders alter column iv type interval day to second;

-- [t_dom_to_dom]
alter table orders alter column dm type dom_chk;

-- [t_dom_over_dom]
alter table orders alter column dmc type dom_over_chk;

-- [t_collate_same]
alter table orders alter column vcoll type text;

-- [t_collate_default_named]
alter table orders alter column vcoll type text collate "default";

-- [t_clustered_index] the index is kept
-- before:
alter table orders cluster on orders_vc_idx_idx;
-- then:
alter table orders alter column vc_idx type text;

-- [t_composite_type]
alter type addr alter attribute zip type varchar(10);

-- [t_composite_in_use]
-- before:
create table people (id int, home addr);
-- then:
alter type addr add attribute city text;

-- [t_composite_retyped_in_use]
-- before:
create table people (id int, home addr);
-- then:
alter type addr alter attribute zip type varchar(10);

-- [t_composite_dropped_attribute]
alter type addr drop attribute zip;
