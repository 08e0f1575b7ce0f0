-- Data

-- [update_all]
update orders set nn = nn where id <= 10;

-- [delete_some]
delete from orders where id <= 10;

-- [insert_one]
insert into unl values (1);

-- [select_for_update]
select * from orders where id = 1 for update;

-- [copy_from_select]
insert into unl select qty from orders where id <= 10;

-- [do_block_alter]
do $$ begin execute 'alter table orders add column c float8 default random()'; end $$;

-- [update_everything] no lock that anybody waits for, as long as it is alone
update users set name = 'x';

-- [delete_everything]
delete from unl;

-- [insert_referencing]
insert into child values (5000, 1, 'c1');

-- [insert_select]
insert into unl select qty from orders;

-- [insert_on_conflict]
insert into users (id, email) values (1, 'x') on conflict (id) do update set email = excluded.email;

-- [update_from]
update users set name = o.note from orders o where o.user_id = users.id and o.id = 5;

-- [merge]
merge into users using (values (1, 'x')) v (id, name) on users.id = v.id
    when matched then update set name = v.name;

-- [with_delete]
with gone as (delete from unl where x = 5 returning x) insert into inh select x, 'x' from gone;

-- [select_for_share]
select * from users where id = 1 for share;

-- [select_for_no_key_update_join]
select * from orders o join users u on u.id = o.user_id where o.id = 1 for no key update of o;

-- [select_from_view_for_update]
select * from vw where id = 1 for update;

-- [select_nextval]
select nextval('sq');

-- [update_view]
update vw set email = 'x' where id = 1;

-- [copy_to]
copy users to '/dev/null';

-- [explain]
explain update users set name = 'x' where id = 1;

-- [explain_analyze]
explain analyze update users set name = 'x' where id = 1;

-- [values]
values (1), (2);

-- [set_role]
set role r1;
select 1;

-- [call_procedure] what it does is not in the text
-- before:
create procedure pr() language plpgsql as
    $$ begin alter table orders add column c float8 default random(); end $$;
-- then:
call pr();

-- [select_function] what it does is not in the text
-- before:
create function fn() returns void language plpgsql as
    $$ begin alter table orders add column c float8 default random(); end $$;
-- then:
select fn();

-- [prepare_and_execute]
prepare change as update users set name = 'x' where id = 1;
execute change;

-- [cursor]
declare c cursor for select * from users;
fetch all from c;
close c;

-- [syntax_error]
alter table orders add colum c int int;

-- [discard]
-- alone:
discard plans;
