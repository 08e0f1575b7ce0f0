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
