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
