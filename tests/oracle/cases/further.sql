-- Further statements

-- [fx_django_add_field]
ALTER TABLE "users" ADD COLUMN "is_admin" boolean DEFAULT false NOT NULL;
ALTER TABLE "users" ALTER COLUMN "is_admin" DROP DEFAULT;

-- [fx_rails_add_reference]
ALTER TABLE "orders" ADD "owner_id" bigint;
CREATE INDEX "index_orders_on_owner_id" ON "orders" ("owner_id");
ALTER TABLE "orders" ADD CONSTRAINT "fk_rails_1" FOREIGN KEY ("owner_id") REFERENCES "users" ("id");

-- [fx_alembic_version]
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO alembic_version (version_num) VALUES ('abc');
UPDATE alembic_version SET version_num='def' WHERE alembic_version.version_num = 'abc';

-- [fx_alembic_create_table]
CREATE TABLE account (id SERIAL NOT NULL, name VARCHAR(50) NOT NULL, owner BIGINT,
    PRIMARY KEY (id), UNIQUE (name), FOREIGN KEY(owner) REFERENCES users (id));
CREATE INDEX ix_account_owner ON account (owner);

-- [fx_backfill_and_not_null]
ALTER TABLE users ADD COLUMN plan text;
UPDATE users SET plan = 'free' WHERE plan IS NULL;
ALTER TABLE users ALTER COLUMN plan SET NOT NULL;

-- [fx_int_to_bigint_by_hand]
alter table orders add column new_id bigint;
alter table orders drop column qty_ni;
alter table orders rename column new_id to qty_ni;

-- [fx_replace_constraint]
alter table orders drop constraint st_chk,
    add constraint st_chk check (status in ('a', 'b') or status is not null) not valid;

-- [fx_replace_index]
drop index orders_qty_idx;
create index orders_qty_idx on orders (qty, id);

-- [fx_rename_enum_swap]
alter type mood rename to mood_old;
create type mood as enum ('a', 'b', 'c', 'd');
alter table orders alter column md type mood using md::text::mood;
drop type mood_old;

-- [fx_text_search]
alter table orders add column tsv tsvector
    generated always as (to_tsvector('english', coalesce(note, ''))) stored;

-- [fx_gin_index]
create index i on orders using gin (arr);

-- [fx_brin_index]
create index i on orders using brin (created);

-- [fx_index_only_on_partition_parent]
create unique index i on only deep (area, id, n);

-- [fx_unique_nulls]
create unique index i on orders (nn) nulls not distinct;

-- [fx_index_with_storage]
create index i on orders (nn desc nulls last) with (fillfactor = 80) where nn > 5;

-- [fx_index_collate]
create index i on orders (note collate "C" text_pattern_ops);

-- [fx_default_expression_of_columns]
alter table orders add column c int default (1 + 2) * 3;

-- [fx_default_random_cast]
alter table orders add column c text default gen_random_uuid()::text;

-- [fx_default_localtimestamp]
alter table orders add column c timestamp default localtimestamp;

-- [fx_default_now_at_time_zone]
alter table orders add column c timestamp default (now() at time zone 'utc');

-- [fx_default_statement_timestamp]
alter table orders add column c timestamptz default statement_timestamp();

-- [fx_default_array_literal]
alter table orders add column c int[] default '{}' not null;

-- [fx_default_current_setting]
alter table orders add column c text default current_setting('server_version');

-- [fx_default_version]
alter table orders add column c text default version();

-- [fx_default_txid]
alter table orders add column c bigint default txid_current();

-- [fx_default_pg_backend_pid]
alter table orders add column c text default pg_backend_pid()::text;

-- [fx_default_case]
alter table orders add column c int default case when true then 1 else 2 end;

-- [fx_default_lower]
alter table orders add column c text default lower('ABC') || length('x');

-- [fx_default_date_trunc]
alter table orders add column c timestamptz default date_trunc('day', now());

-- [fx_default_make_date]
alter table orders add column c date default make_date(2024, 1, 1);

-- [fx_default_to_char]
alter table orders add column c text default to_char(now(), 'YYYY');

-- [fx_default_greatest]
alter table orders add column c int default greatest(1, 2, 3);

-- [fx_default_row]
alter table orders add column c jsonb default jsonb_build_object('a', 1);

-- [fx_default_setseed]
alter table orders add column c float8 default random() * 0;

-- [fx_default_interval]
alter table orders add column c interval default interval '1 hour' * 2;

-- [fx_add_column_if_not_exists_twice]
alter table orders add column if not exists c int, add column if not exists c int;

-- [fx_type_numeric_same]
alter table orders alter column amount type numeric(10,2);

-- [fx_type_decimal]
alter table orders alter column amount type decimal(14,2);

-- [fx_type_varchar_alias]
alter table orders alter column vc_idx type character varying(255);

-- [fx_type_text_using_trim]
alter table orders alter column note type text using trim(note);

-- [fx_type_int_using_cast]
alter table orders alter column big type int using big::int;

-- [fx_type_timestamptz_precision]
alter table orders alter column ctz type timestamptz(6);

-- [fx_type_double]
alter table orders alter column amount type double precision;

-- [fx_type_real]
alter table orders alter column qty_ni type real;

-- [fx_type_boolean]
alter table orders alter column flag type boolean;

-- [fx_type_boolean_text]
alter table orders alter column flag drop default, alter column flag type text using flag::text;

-- [fx_type_date_timestamp]
alter table orders alter column tsp type timestamptz using tsp at time zone 'UTC';

-- [fx_type_bit]
alter table orders alter column vb type bit(10);

-- [fx_type_json_text_using]
alter table orders alter column js type jsonb using js::jsonb;

-- [fx_type_uuid]
alter table orders alter column txtjs type uuid using null;

-- [fx_type_name]
alter table orders alter column note type name;

-- [fx_type_char_1]
alter table orders alter column note type "char";

-- [fx_type_oid_int]
alter table orders alter column nn type regclass;

-- [fx_set_nn_then_default]
alter table orders alter column nnc set not null, alter column nnc set default 0;

-- [fx_set_not_null_many]
alter table orders alter column nn set not null, alter column qty set not null,
    alter column big set not null;

-- [fx_unique_on_expression_error]
alter table orders add constraint u unique (lower(note));

-- [fx_check_no_rows_needed]
alter table orders add constraint k check (true);

-- [fx_check_with_function]
alter table orders add constraint k check (length(note) < 1000);

-- [fx_fk_match_full]
alter table orders add constraint f foreign key (user_id) references users (id) match full
    on update cascade on delete set null not valid;

-- [fx_fk_to_unique]
alter table child add constraint f foreign key (pcode) references parent (code);

-- [fx_drop_constraint_cascade]
alter table parent drop constraint parent_code_key cascade;

-- [fx_drop_column_with_index_and_fk]
alter table child drop column pid, drop column pcode;

-- [fx_drop_table_if_exists_cascade]
drop table if exists orders, nosuch cascade;

-- [fx_truncate_cascade_only]
truncate table tree restart identity cascade;

-- [fx_view_on_table_changed]
create or replace view watching as select id, seen, free from watched;

-- [fx_recreate_view_around_type_change]
drop view watching;
alter table watched alter column seen type varchar(50);
create view watching as select id, seen from watched;

-- [fx_recreate_matview]
drop materialized view watched_copy;
create materialized view watched_copy as select id, ruled, free from watched;
create unique index wc on watched_copy (id);

-- [fx_instead_of_rename_table_view]
alter table users rename to people;
create view users as select * from people;

-- [fx_comment_on_everything]
comment on column users.email is 'x';
comment on table users is null;
comment on schema public is 'y';

-- [fx_grant_in_schema]
grant usage on schema sc to r1;
grant insert, update on users, orders to r1 with grant option;

-- [fx_create_extension_there]
create extension if not exists plpgsql;

-- [fx_set_config]
select set_config('search_path', 'sc', true);
alter table users add column c int default 5;

-- [fx_set_search_path_empty]
set search_path = '';
alter table public.users add column c text;

-- [fx_function_and_trigger]
create or replace function touch() returns trigger language plpgsql as $$
begin
    new.name := lower(new.name);
    return new;
end $$;
create trigger touch before insert or update on users for each row execute function touch();

-- [fx_function_with_table]
create function total() returns bigint language sql stable
    begin atomic select count(*) from orders; end;

-- [fx_sequence_for_column]
create sequence s9;
alter table unl add column c bigint;
alter table unl alter column c set default nextval('s9');
alter sequence s9 owned by unl.c;

-- [fx_drop_default_and_sequence]
alter table serials alter column id drop default;
drop sequence serials_id_seq;

-- [fx_setval_of_max]
select setval('serials_id_seq', (select max(id) from serials));

-- [fx_identity_from_serial]
alter table serials alter column id drop default;
drop sequence serials_id_seq;
alter table serials alter column id add generated by default as identity;

-- [fx_delete_duplicates]
delete from users a using users b where a.id > b.id and a.email = b.email;
create unique index i on users (email);

-- [fx_update_from_select]
update orders set note = u.name from users u where u.id = orders.user_id;

-- [fx_insert_returning]
insert into users (id, email) values (7001, 'a'), (7002, 'b') returning id;

-- [fx_with_update]
with moved as (update users set name = 'm' where id < 10 returning id)
update orders set note = 'm' from moved where moved.id = orders.user_id;

-- [fx_copy_table]
create table orders_copy (like orders including defaults including constraints);
insert into orders_copy select * from orders;
alter table orders_copy add primary key (id);

-- [fx_partition_by_month]
create table events (id bigint, at timestamptz not null) partition by range (at);
create table events_2024 partition of events for values from ('2024-01-01') to ('2025-01-01');
create index on events (at);

-- [fx_attach_inside_new_parent]
create table all_users (like users including all) partition by range (id);
alter table all_users attach partition users for values from (1) to (100000);

-- [fx_inherit_new_parent]
create table anything (id bigint);
alter table users inherit anything;

-- [fx_reset_statistics]
alter table orders alter column qty set statistics -1, alter column note reset (n_distinct);

-- [fx_toast_options]
alter table orders set (toast.autovacuum_vacuum_scale_factor = 0.1);

-- [fx_replica_identity_default]
alter table orders replica identity default;

-- [fx_cluster_then_nothing]
alter table orders cluster on orders_pkey;

-- [fx_savepoint_around_error] as an ORM does
savepoint sa_1;
alter table users add column c int;
release savepoint sa_1;
alter table users drop column c;

-- [fx_lock_nowait_then_alter]
lock table users in access exclusive mode nowait;
alter table users add column c int;

-- [fx_advisory_then_ddl]
select pg_advisory_lock(1);
alter table users add column c int;
select pg_advisory_unlock(1);

-- [fx_timeouts]
set local lock_timeout to '3s';
set local statement_timeout to '1min';
alter table orders validate constraint st_chk;

-- [fx_do_add_column_guarded]
do $$
begin
    if not exists (
        select 1 from information_schema.columns
        where table_name = 'orders' and column_name = 'zip'
    ) then
        alter table orders add column zip text;
    end if;
end $$;

-- [fx_do_update_loop]
do $$
declare last bigint := 0;
begin
    loop
        update users set name = 'x' where id > last and id <= last + 500;
        exit when not found;
        last := last + 500;
    end loop;
end $$;

-- [fx_do_raise_notice]
do $$ begin raise notice 'hello'; alter table users add column c int; end $$;
