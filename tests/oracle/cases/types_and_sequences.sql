-- Types, domains, sequences, functions

-- [enum_add_value]
alter type mood add value 'z';

-- [enum_add_value_use_same_tx]
alter type mood add value 'z';
update users set name='x' where id=1 and 'z'::mood is null;

-- [enum_rename_value]
alter type mood rename value 'a' to 'aa';

-- [enum_add_value_created_same_tx]
create type m9 as enum ('p');
alter type m9 add value 'q';
select 'q'::m9;

-- [domain_add_check]
alter domain dom_plain add constraint dc check (value <> 'q');

-- [domain_add_check_notvalid]
alter domain dom_plain add constraint dc check (value <> 'q') not valid;

-- [domain_validate]
-- before:
alter domain dom_plain add constraint dc check (value <> 'q') not valid;
-- then:
alter domain dom_plain validate constraint dc;

-- [domain_set_nn]
alter domain dom_nn_int set not null;

-- [alter_composite]
alter type addr add attribute city text;

-- [alter_sequence]
alter sequence sq increment 5;

-- [alter_sequence_owned]
alter sequence sq owned by orders.id;

-- [create_function]
create or replace function immf() returns int language sql immutable as 'select 2';

-- [enum_add_value_before]
alter type mood add value 'aa' before 'b';

-- [enum_add_value_there]
alter type mood add value 'a';

-- [enum_add_value_if_not_exists]
alter type mood add value if not exists 'a';

-- [enum_rename]
alter type mood rename to feeling;

-- [enum_drop_used]
drop type mood;

-- [enum_drop_unused]
drop type mood2;

-- [enum_drop_used_cascade]
drop type mood cascade;

-- [enum_create_there]
create type mood as enum ('x');

-- [domain_drop_used]
drop domain dom_chk;

-- [domain_drop_unused]
drop domain dom_v20;

-- [domain_drop_constraint]
alter domain dom_chk drop constraint dom_chk_check;

-- [domain_set_default]
alter domain dom_plain set default 'x';

-- [domain_drop_not_null]
alter domain dom_nn_int drop not null;

-- [domain_add_check_unused]
alter domain dom_v20 add constraint dc check (value <> 'q');

-- [domain_add_check_under_domain] a column of a domain that is made of it
alter domain dom_chk add constraint dc check (value <> 'q');

-- [domain_rename_constraint]
alter domain dom_chk rename constraint dom_chk_check to dc;

-- [sequence_rename]
alter sequence sq rename to sq9;

-- [sequence_restart]
alter sequence sq restart with 100;

-- [sequence_type]
alter sequence sq as bigint;

-- [sequence_setval]
select setval('sq', 100);

-- [sequence_create_owned]
create sequence sq2 owned by orders.id;

-- [sequence_owner]
alter sequence sq owner to r1;

-- [function_drop]
drop function stabf();

-- [function_drop_used]
drop function trgf();

-- [function_rename]
alter function immf() rename to immg;

-- [function_return_type]
create or replace function immf() returns text language sql immutable as 'select ''x''';

-- [procedure_create]
create procedure pr() language plpgsql as 'begin end';

-- [type_create_composite]
create type pair as (a int, b int);

-- [type_create_range]
create type floats as range (subtype = float8);

-- [type_rename_attribute]
alter type addr rename attribute zip to code;

-- [collation_create]
create collation mine from "C";

-- [cast_create]
create cast (mood as int) with inout;

-- [role_create]
create role nobody_knows;

-- [default_privileges]
alter default privileges in schema public grant select on tables to r1;

-- [database_setting]
alter system set work_mem = '8MB';

-- [database_create]
create database another;

-- [notify]
notify revised;

-- [advisory_lock]
select pg_advisory_xact_lock(5);
